"""Pretraining of the small models: it learns to read, and its rows are a class plus an orientation."""

from __future__ import annotations

import pytest
import torch

from fednet.api import NullProgress
from fednet.data.datasets import ImageSet
from fednet.data.orientations import SHOWN, UPRIGHT, rotation
from fednet.errors import ModelError
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.pretraining import orientation_word, pretrain_clip, untrained_clip
from fednet.methods.cmtii.small_config import SmallBackendConfig, SmallClipConfig


def stripes(count: int = 40) -> ImageSet:
    """Two classes that stay two however they are turned."""
    labels = torch.arange(count) % 2
    images = torch.full((count, 1, 8, 8), -1.0)
    images[labels == 0, :, 3:5, 3:5] = 1.0
    images[labels == 1, :, 1:7] = 1.0
    return ImageSet(images, labels, ("Dot", "bar"))


def clip(steps: int) -> OpenClip:
    config = SmallBackendConfig.model_validate(
        {"clip": {"vision": 16, "vision_layers": 1, "pretraining": {"steps": steps, "batch": 32, "lr": 5e-3}}}
    )
    made = untrained_clip(config.clip, 8, stripes().classes, 0, "cpu")
    pretrain_clip(made, stripes(), config, NullProgress())
    return made


def test_words_are_names_and_ways() -> None:
    assert orientation_word("Dot", UPRIGHT) == "dot"
    assert orientation_word("Dot", rotation(30)) == "dot-turned-30"


def test_a_clip_learns_to_read() -> None:
    made, some = clip(60), stripes()
    texts = made.text_features([made.tokens(name) for name in some.classes])
    right = (made.image_features(some.images) @ texts.T).argmax(1) == some.labels
    assert float(right.float().mean()) == 1.0


def test_rows_are_a_class_and_a_way() -> None:
    made = clip(3)
    tables = [torch.cat([made.tokens(orientation_word(name, one)) for one in SHOWN]) for name in stripes().classes]
    between = tables[0] - tables[1]
    assert torch.allclose(between, between[:1].expand_as(between), atol=1e-5)


def test_class_names_are_single_words() -> None:
    with pytest.raises(ModelError, match="fire salamander"):
        untrained_clip(SmallClipConfig(), 8, ("fire salamander", "dog"), 0, "cpu")


def test_patches_fit() -> None:
    with pytest.raises(ModelError, match=r"backend.clip.patch 3"):
        untrained_clip(SmallClipConfig(patch=3), 8, ("dog",), 0, "cpu")
