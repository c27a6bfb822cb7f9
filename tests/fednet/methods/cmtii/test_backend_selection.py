"""The back-end that is loaded is the configured one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fednet.api import NullProgress, SiteContext
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.backend_selection import load_backend
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.image_generator import SmallImageGenerator
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.methods.cmtii.site_data import CmtiiDataSplit
from fednet.methods.cmtii.stable_diffusion import StableDiffusionGenerator


def loaded(config: CmtiiConfig, folder: Path) -> CmtiiBackend:
    split = CmtiiDataSplit(config.data, config.public)
    return load_backend(config, SiteContext("a1", 0, 1, 0, "cpu", folder), split, NullProgress())


def test_embedded_models_are_loaded_from_the_store(
    small: Callable[..., CmtiiConfig], backend: CmtiiBackend, tmp_path: Path
) -> None:
    again = loaded(small(), tmp_path)
    assert isinstance(again.image_generator, SmallImageGenerator)
    assert torch.equal(again.clip.tokens("3"), backend.clip.tokens("3"))
    assert list(tmp_path.iterdir()) == []


def test_real_models_are_loaded_from_their_folders(clip_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    config = CmtiiConfig(backend=PretrainedBackendConfig(clip=str(clip_folder), image_generator=generator_folder))
    assert config.public == 0.0
    assert isinstance(loaded(config, tmp_path).image_generator, StableDiffusionGenerator)
