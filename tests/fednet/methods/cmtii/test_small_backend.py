"""The embedded back-end: the same models wherever they are pretrained, once a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fednet.api import NullProgress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.data.orientations import SHOWN
from fednet.errors import ModelError
from fednet.federated.state import detached_copy, digest
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.image_generator import SmallImageGenerator
from fednet.methods.cmtii.small_backend import load_small_backend
from fednet.methods.cmtii.small_config import SmallBackendConfig

Small = Callable[..., CmtiiConfig]


def images(side: int = 8, width: int = 8) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    return ImageSet(2 * torch.rand(12, 1, side, width, generator=random) - 1, torch.arange(12) % 2, ("dot", "bar"))


def load(small: Small, folder: Path, pictures: ImageSet | None = None, **changes: object) -> CmtiiBackend:
    config = small(backend={**small().backend.model_dump(), "store": folder, **changes}).backend
    assert isinstance(config, SmallBackendConfig)
    return load_small_backend(config, SiteContext("a1", 0, 1, 0, "cpu", folder), pictures or images(), NullProgress())


def digests(backend: CmtiiBackend) -> list[str]:
    assert isinstance(backend.clip, OpenClip)
    assert isinstance(backend.image_generator, SmallImageGenerator)
    return [digest(detached_copy(part.state_dict())) for part in (backend.clip.model, backend.image_generator)]


def test_the_models_are_the_same_wherever_they_are_pretrained(small: Small, tmp_path: Path) -> None:
    here, there = load(small, tmp_path / "here"), load(small, tmp_path / "there")
    assert digests(here) == digests(there)
    assert digests(load(small, tmp_path / "here")) == digests(here)
    assert len(list((tmp_path / "here").glob("*.safetensors"))) == 2


def test_other_seeds_and_pictures_make_other_models(small: Small, tmp_path: Path) -> None:
    first = digests(load(small, tmp_path))
    assert digests(load(small, tmp_path, seed=1)) != first
    other = ImageSet(-images().images, images().labels, images().classes)
    assert digests(load(small, tmp_path, other)) != first
    assert len(list(tmp_path.glob("*.safetensors"))) == 6


def test_the_models_are_frozen_and_know_a_word_for_every_orientation(small: Small, tmp_path: Path) -> None:
    backend = load(small, tmp_path)
    assert isinstance(backend.image_generator, SmallImageGenerator)
    parts = [*backend.image_generator.parameters(), *backend.clip.image_encoder.parameters()]
    assert not any(part.requires_grad for part in parts)
    assert len(backend.known("bar")) == len(SHOWN)
    assert torch.equal(torch.cat(list(backend.known("bar")))[0], backend.clip.tokens("bar")[0])


def test_pictures_must_be_square(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"square pictures.*set data\.size"):
        load(small, tmp_path, images(8, 12))


def test_a_stored_model_that_is_not_finite_is_refused(small: Small, tmp_path: Path) -> None:
    load(small, tmp_path)
    (path,) = tmp_path.glob("clip-*.safetensors")
    state = load_file(path)
    save_file({**state, "logit_scale": state["logit_scale"] * torch.nan}, path)
    with pytest.raises(ModelError, match="the stored model"):
        load(small, tmp_path)
