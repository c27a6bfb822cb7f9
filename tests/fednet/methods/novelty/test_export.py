"""Classifier and detectors leave as folders of torch and of diffusers, with the threshold that they have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_model
from torch import nn

from fednet.api import NullProgress, SiteContext
from fednet.methods.novelty.export import DETECTOR_CONFIG
from fednet.methods.novelty.site_models import NoveltyModels


@pytest.fixture
def models(small_config: Callable[..., Any], pictures: Callable[..., Any], tmp_path: Path) -> NoveltyModels:
    return NoveltyModels(small_config(), SiteContext("a1", 0, 2, 0, "cpu", tmp_path), pictures(0, 1))


def test_a_classifier_is_there_once_it_is_trained(models: NoveltyModels, tmp_path: Path) -> None:
    models.train_copy("classifier", models.training_task({}, 0), fresh=False, progress=NullProgress())
    folder = tmp_path / "models" / "a1" / "classifier"
    config = json.loads((folder / "config.json").read_text())
    assert config["classes"] == list(models.images.classes)
    net = nn.Sequential(*(getattr(nn, kind)(**arguments) for kind, arguments in config["layers"])).eval()
    load_model(net, folder / "model.safetensors")
    seen = torch.randn(3, models.images.shape[0], 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(seen), models.classifier.net.as_layers().eval()(seen))


def test_diffusers_loads_the_network_of_a_detector(models: NoveltyModels, tmp_path: Path) -> None:
    models.detectors["detector"].threshold = 0.25
    models.export("detector")
    folder = tmp_path / "models" / "a1" / "detector"
    unet, scheduler = UNet2DModel.from_pretrained(folder / "unet"), DDIMScheduler.from_pretrained(folder / "scheduler")
    own = models.detector("detector").net.unet
    pictures = torch.randn(2, *models.images.shape)
    with torch.no_grad():
        torch.testing.assert_close(unet(pictures, 500).sample, own(pictures, 500).sample)
    assert scheduler.config.prediction_type == "v_prediction"
    facts = json.loads((folder / DETECTOR_CONFIG).read_text())
    assert facts["threshold"] == 0.25
    assert facts["score"]["distance"]
    assert "scoring is `Detector` of fednet" in (folder / "README.md").read_text()
