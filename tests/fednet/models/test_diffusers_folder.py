"""Folders are opened from local safetensors files alone; what is missing or another's code is named with its folder."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

from fednet.errors import ModelError
from fednet.models.diffusers_folder import load_network, part_config, part_folder

NETWORKS = {"UNet2DModel": UNet2DModel}
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def loaded(folder: Path) -> torch.nn.Module:
    return load_network(folder, "unet", NETWORKS, "model.path", torch.float32)


def test_a_network_is_loaded_frozen_and_in_its_precision(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    network = loaded(folder)
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    half = load_network(folder, "unet", NETWORKS, "model.path", torch.bfloat16)
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}


def test_weights_that_may_run_code_are_not_opened(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    (weights,) = (folder / "unet").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"holds no safetensors weights, and no other format is opened"):
        loaded(folder)


def test_weights_of_another_network_are_refused(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    (weights,) = (folder / "unet").glob("*.safetensors")
    save_file({"conv_in.weight": torch.zeros(1)}, weights)
    with pytest.raises(ModelError, match=r"unet cannot be loaded as a UNet2DModel"):
        loaded(folder)


def test_a_folder_of_remote_code_is_refused(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    (folder / "unet" / "my_model.py").write_text("raise AssertionError('this code was run')")
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace('"UNet2DModel"', '"MyModel"'))
    with pytest.raises(ModelError, match="holds a MyModel; expected UNet2DModel"):
        loaded(folder)


def test_what_is_not_there_is_named(diffusers_folder: Make, tmp_path: Path) -> None:
    folder = diffusers_folder()
    assert part_folder(folder, "unet") == folder / "unet"
    assert part_folder(folder, "vae") == folder
    with pytest.raises(ModelError, match=r"model\.path: .*nowhere is no folder"):
        part_config(tmp_path / "nowhere", "unet", "config.json", "model.path")
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelError, match=r"has no unet \(unet/config\.json\)"):
        part_config(folder, "unet", "config.json", "model.path")
