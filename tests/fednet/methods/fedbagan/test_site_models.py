"""The models of a site: the same everywhere, copied to train, and the GAN that begins as the autoencoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.api import SiteContext
from fednet.errors import ModelError
from fednet.federated.state import digest
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, MOMENTS, PLAIN_GAN
from fednet.methods.fedbagan.site_models import FedBaganModels


def models(folder: Path, name: str = "a1") -> FedBaganModels:
    config = FedBaganConfig.model_validate({"model": {"latent": 4, "width": 4}})
    return FedBaganModels(config, SiteContext(name, 0, 2, 0, "cpu", folder), (1, 8, 8), 3)


def test_every_site_begins_with_the_same_models(tmp_path: Path) -> None:
    one, other = models(tmp_path), models(tmp_path, "a2")
    states = {model: one.states.initial_state(model) for model in (AUTOENCODER, MOMENTS, GAN, PLAIN_GAN)}
    assert all(digest(state) == digest(other.states.initial_state(model)) for model, state in states.items())
    assert digest(states[GAN]) != digest(states[PLAIN_GAN])


def test_a_copy_is_trained_and_the_model_stays(tmp_path: Path) -> None:
    site = models(tmp_path)
    before = digest(site.states.current_state(AUTOENCODER))
    with torch.no_grad():
        site.autoencoder().classifier.weight.zero_()
    assert digest(site.states.current_state(AUTOENCODER)) == before


def test_the_gan_begins_as_the_autoencoder(tmp_path: Path) -> None:
    site = models(tmp_path)
    gan, source = site.gan(GAN, site.initial_gan()), site.autoencoder()
    assert digest(gan.generator.state_dict()) == digest(source.decoder.state_dict())
    assert digest(gan.average.state_dict()) == digest(source.decoder.state_dict())
    assert digest(gan.discriminator.trunk.state_dict()) == digest(source.encoder.trunk.state_dict())


def test_nothing_is_drawn_before_moments_are_summed(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        models(tmp_path).draw(torch.zeros(2, dtype=torch.int64), torch.zeros(2, 4))
