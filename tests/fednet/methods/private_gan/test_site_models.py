"""The models of a site: the same everywhere, copied to train, written with notes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from fednet.api import SiteContext
from fednet.federated.state import digest
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.messages import CLASSIFIER, GAN
from fednet.methods.private_gan.site_models import PrivateGanModels


def models(folder: Path, name: str = "a1") -> PrivateGanModels:
    config = PrivateGanConfig.model_validate({"model": {"kind": "dp-dcgan", "latent": 4, "width": 8}})
    return PrivateGanModels(config, SiteContext(name, 0, 2, 0, "cpu", folder), (1, 8, 8), 2)


def test_every_site_begins_with_the_same_models(tmp_path: Path) -> None:
    for model in (GAN, CLASSIFIER):
        one, other = (models(tmp_path, name).states.initial_state(model) for name in ("a1", "a2"))
        assert digest(one) == digest(other)


def test_a_copy_is_trained_and_the_model_stays(tmp_path: Path) -> None:
    site = models(tmp_path)
    before = {model: digest(site.states.current_state(model)) for model in (GAN, CLASSIFIER)}
    with torch.no_grad():
        for net in (site.gan(), site.classifier()):
            for weights in net.parameters():
                weights.zero_()
    assert {model: digest(site.states.current_state(model)) for model in (GAN, CLASSIFIER)} == before


def test_a_copy_in_a_given_state(tmp_path: Path) -> None:
    site = models(tmp_path)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in site.states.initial_state(CLASSIFIER).items()}
    assert digest(site.classifier(zeros).state_dict()) == digest(zeros)


def test_a_checkpoint_has_notes(tmp_path: Path) -> None:
    path = models(tmp_path).save(GAN, 2, {"epsilon_rdp": 1.5})
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["fednet"]) == {"epsilon_rdp": 1.5, "round": 2}
        assert any(name.startswith("discriminator.") for name in file.keys())  # noqa: SIM118 - not a mapping
