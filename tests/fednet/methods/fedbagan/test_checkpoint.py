"""A generator in a file: what was written is read, draws the same, and a foreign file is refused with one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from fednet.errors import ModelError
from fednet.methods.fedbagan.checkpoint import METADATA_KEY, CheckpointDescription, GeneratorCheckpoint
from fednet.methods.fedbagan.gaussians import ClassGaussians, latent_moments
from fednet.models.codec import Decoder
from fednet.models.config import CodecConfig

MODEL = CodecConfig(latent=4, width=4)
NAMES = ("rows", "columns", "checks")


@pytest.fixture
def kept() -> GeneratorCheckpoint:
    torch.manual_seed(0)
    gaussians = ClassGaussians.of(latent_moments(torch.randn(30, 4), torch.arange(30) % 3, 3, 0, 1), 4.0)
    about = CheckpointDescription(model=MODEL, shape=(1, 8, 8), classes=NAMES, round=7, distance=1.5)
    return GeneratorCheckpoint(Decoder(MODEL, (1, 8, 8)).eval(), gaussians, about)


def parts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[METADATA_KEY])  # noqa: SIM118 - no iterator


def test_what_was_written_is_read_and_draws_the_same(kept: GeneratorCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "best.safetensors"
    kept.write(path)
    again = GeneratorCheckpoint.read(path)
    labels, noise = torch.tensor([0, 2, 2]), torch.randn(3, 4)
    assert again.about == kept.about
    assert torch.equal(again.draw(labels, noise), kept.draw(labels, noise))
    again.write(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"method": "novelty"},
        {"model": {"latent": 5, "width": 4}},
        {"model": {"latent": 10**9, "width": 4}},
        {"shape": [1, 8, 10**6]},
        {"classes": ["one"]},
        {"classes": [*NAMES, "one more"]},
        {"round": -1},
        {"further": 1},
    ],
)
def test_a_note_that_does_not_fit_is_refused(kept: GeneratorCheckpoint, tmp_path: Path, change: dict[str, Any]) -> None:
    kept.write(tmp_path / "file")
    tensors, note = parts(tmp_path / "file")
    save_file(tensors, tmp_path / "file", {METADATA_KEY: json.dumps(note | change)})
    with pytest.raises(ModelError):
        GeneratorCheckpoint.read(tmp_path / "file")


@pytest.mark.parametrize("name", ["mean", "generator.body.0.weight"])
def test_weights_that_do_not_fit_are_refused(kept: GeneratorCheckpoint, tmp_path: Path, name: str) -> None:
    kept.write(tmp_path / "file")
    tensors, note = parts(tmp_path / "file")
    spoilt = {
        "nan": torch.full_like(tensors[name], torch.nan),
        "shape": tensors[name][:1],
        "dtype": tensors[name].double(),
    }
    for bad in spoilt.values():
        save_file({**tensors, name: bad.contiguous()}, tmp_path / "bad", {METADATA_KEY: json.dumps(note)})
        with pytest.raises(ModelError, match="bad"):
            GeneratorCheckpoint.read(tmp_path / "bad")
    save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "bad", {METADATA_KEY: json.dumps(note)})
    with pytest.raises(ModelError, match="is missing"):
        GeneratorCheckpoint.read(tmp_path / "bad")


@pytest.mark.parametrize(
    "content", [b"", b"no file of tensors", save({"x": torch.ones(1)}), save({}, {METADATA_KEY: "{"})]
)
def test_a_foreign_file_is_refused_with_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be used \(.*\): give a checkpoint of fedbagan"):
        GeneratorCheckpoint.read(tmp_path / "file")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give a checkpoint of fedbagan"):
        GeneratorCheckpoint.read(tmp_path / "none")
