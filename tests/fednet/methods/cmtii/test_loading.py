"""Models come from local safetensors files alone, and what is missing is named with its folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fednet.errors import ModelError
from fednet.methods.cmtii.loading import clip_weights, load_clip
from fednet.seeds import generator

NAME = "tiny-for-tests"
Change = Callable[[Callable[[Path], None]], Path]
pytestmark = pytest.mark.usefixtures("no_network")


def test_a_name_and_a_folder_give_the_same_weights(clip_folder: Path) -> None:
    named = load_clip(NAME, clip_folder / "open_clip_model.safetensors", "cpu", None)
    published = load_clip(str(clip_folder), None, "cpu", None)
    for clip in (named, published):
        stored = load_file(clip_folder / "open_clip_model.safetensors")
        assert all(torch.equal(value, stored[name]) for name, value in clip.model.state_dict().items())
        assert not clip.model.training
        assert not any(value.requires_grad for value in clip.model.parameters())
    torch.testing.assert_close(
        named.text_features([named.tokens("cat")]), published.text_features([named.tokens("cat")])
    )


def test_a_published_folder_says_how_pictures_are_prepared(clip_folder: Path) -> None:
    seen: list[torch.Tensor] = []
    clip = load_clip(str(clip_folder), None, "cpu", None)
    clip.image_encoder.register_forward_pre_hook(lambda _tower, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 16, 16, generator=generator(0, "images")) * 2 - 1
    clip.image_features(images)
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(seen[0][0], ((images[0] + 1) / 2 - mean) / deviation)


@pytest.mark.parametrize(
    ("clip", "checkpoint", "reason"),
    [
        ("ViT-H-41", "weights.safetensors", r"no model 'ViT-H-41'; near it: .*ViT-H-14"),
        (
            "ViT-H-14",
            "nothing.safetensors",
            r"nothing\.safetensors is no file; put the safetensors weights of ViT-H-14",
        ),
        ("ViT-H-14", "weights.bin", r"weights\.bin is no safetensors file.*may run code"),
        ("nowhere", None, "nowhere is no folder with an open_clip_config.json"),
    ],
)
def test_a_clip_that_is_not_there_is_refused(tmp_path: Path, clip: str, checkpoint: str | None, reason: str) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=reason):
        clip_weights(clip, None if checkpoint is None else tmp_path / checkpoint)


def test_a_clip_folder_without_safetensors_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"holds no open_clip_model\.safetensors"):
        load_clip(str(tmp_path), None, "cpu", None)


def test_a_clip_folder_that_describes_nothing_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copy(clip_folder / "open_clip_model.safetensors", tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "open_clip_config.json").write_text(text)
        with pytest.raises(ModelError, match="clip: "):
            load_clip(str(tmp_path), None, "cpu", None)


def test_weights_of_another_architecture_are_refused(tmp_path: Path, clip_folder: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = load_file(clip_folder / "open_clip_model.safetensors")
    save_file(state | {"ln_final.weight": torch.ones(3)}, path)
    with pytest.raises(ModelError, match=r"weights\.safetensors cannot be loaded as the CLIP 'tiny-for-tests'"):
        load_clip(NAME, path, "cpu", None)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"weights\.safetensors cannot be loaded"):
        load_clip(NAME, path, "cpu", None)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "xlm-roberta-base-ViT-B-32"])
def test_a_clip_whose_tokenizer_is_elsewhere_is_refused(clip_folder: Path, name: str) -> None:
    with pytest.raises(ModelError, match="another tokenizer than open_clip's own"):
        load_clip(name, clip_folder / "open_clip_model.safetensors", "cpu", None)


def test_a_device_that_is_not_there_is_refused(clip_folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_clip(str(clip_folder), None, "cuda:97", None)
