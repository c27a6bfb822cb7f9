"""Training at one site: the generator learns by the adversarial loss, and classes come equally often."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fednet.api import NullProgress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.gaussians import ClassGaussians, latent_moments
from fednet.methods.fedbagan.site_models import Autoencoder, BalancingGan
from fednet.methods.fedbagan.training import (
    AdversarialTrainer,
    FedBaganTrainingContext,
    LatentSampler,
    encode,
    train_autoencoder,
    train_gan,
)

SHAPE, CLASSES = (1, 8, 8), 3


def blots(count: int = 24, rare: int = 4) -> ImageSet:
    """Pictures of two classes with a bright upper or lower half, and `rare` ones of a third with a bright middle."""
    labels = torch.arange(count) % 2
    labels[:rare] = 2
    images = torch.full((count, *SHAPE), -0.8)
    for label, top in enumerate((0, 4, 2)):
        images[labels == label, :, top : top + 4] = 0.8
    return ImageSet(images + 0.1 * torch.rand(images.shape), labels, ("upper", "lower", "middle"))


def small(**gan: Any) -> FedBaganConfig:
    return FedBaganConfig.model_validate(
        {
            "model": {"latent": 4, "width": 4},
            "autoencoder": {"steps": 60, "batch": 8, "lr": 5e-3},
            "gan": {"steps": 2, "batch": 8, **gan},
        }
    )


def training_context(pictures: ImageSet | None = None, seed: int = 0, **settings: Any) -> FedBaganTrainingContext:
    random = torch.Generator().manual_seed(seed)
    return FedBaganTrainingContext(pictures or blots(), "cpu", random, NullProgress(), **settings)


def made(config: FedBaganConfig) -> tuple[Autoencoder, BalancingGan, LatentSampler]:
    torch.manual_seed(0)
    autoencoder = Autoencoder(config.model, SHAPE, CLASSES).eval()
    pictures = blots()
    latents = encode(autoencoder, pictures.images, "cpu")
    gaussians = ClassGaussians.of(latent_moments(latents, pictures.labels, CLASSES, 0, 1), 4.0)
    return autoencoder, BalancingGan(config.model, SHAPE, CLASSES), LatentSampler(config.model.latent, gaussians)


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([part.detach().flatten() for part in net.parameters()])


@pytest.mark.parametrize("game", ["relativistic", "softmax"])
@pytest.mark.parametrize("loss", ["nll", "cel"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_the_generator_trains_because_of_the_adversarial_loss(game: str, loss: str, optimiser: str) -> None:
    """Without an anchor nothing but the discriminator's judgement reaches it; its gradient is not zero, it moves."""
    config = small(game=game, loss=loss, optimiser=optimiser, anchor=0.0, noise=0.0).gan
    _, pair, latents = made(small())
    adversaries = AdversarialTrainer(pair, config, latents, None, training_context())
    before, held = weights(pair.generator), weights(pair.discriminator)
    adversaries.generate()
    gradients = [part.grad for part in pair.generator.parameters()]
    assert all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in gradients)
    assert float((weights(pair.generator) - before).abs().max()) > 0
    assert torch.equal(weights(pair.discriminator), held)
    assert all(part.requires_grad for part in pair.discriminator.parameters())


def test_a_deaf_discriminator_moves_no_generator() -> None:
    """The other way round: where the discriminator's answer does not depend on the picture, nothing is learnt."""
    config = small(anchor=0.0, optimiser="sgd").gan
    _, pair, latents = made(small())
    torch.nn.init.zeros_(pair.discriminator.head.weight)
    before = weights(pair.generator)
    AdversarialTrainer(pair, config, latents, None, training_context()).generate()
    assert torch.equal(weights(pair.generator), before)


def test_the_discriminator_learns_and_leaves_the_generator_alone() -> None:
    _, pair, latents = made(small())
    before, known = weights(pair.generator), weights(pair.discriminator)
    AdversarialTrainer(pair, small().gan, latents, None, training_context()).discriminate()
    assert torch.equal(weights(pair.generator), before)
    assert float((weights(pair.discriminator) - known).abs().max()) > 0


def test_first_the_discriminator_learns_alone() -> None:
    for alone in (True, False):
        autoencoder, pair, latents = made(small())
        before = weights(pair.generator)
        losses = train_gan(pair, small().gan, latents, autoencoder, training_context(), discriminator_only=alone)
        assert torch.equal(weights(pair.generator), before) is alone
        assert ("generator_loss" in losses) is not alone


def test_the_average_follows_the_generator_by_its_decay() -> None:
    config = small(average=0.75).gan
    autoencoder, pair, latents = made(small())
    average, generator = (net.get_parameter("body.0.weight") for net in (pair.average, pair.generator))
    torch.nn.init.zeros_(average)
    train_gan(pair, config, latents, autoencoder, training_context(), discriminator_only=False)
    torch.testing.assert_close(average, 0.25 * generator)


def test_every_class_of_the_site_comes_equally_often_and_no_other() -> None:
    own = blots(100, rare=10)
    balanced = torch.bincount(training_context(own).real(3000)[1], minlength=3) / 3000
    plain = torch.bincount(training_context(own, balanced=False).real(3000)[1], minlength=3) / 3000
    assert float((balanced - 1 / 3).abs().max()) < 0.05
    assert float((plain - torch.tensor([0.45, 0.45, 0.1])).abs().max()) < 0.05
    two = own.subset((own.labels != 0).nonzero().flatten())
    assert set(training_context(two).real(100)[1].tolist()) == {1, 2}


def test_an_autoencoder_learns_to_reconstruct_and_to_tell_classes() -> None:
    config = small().autoencoder
    net, _, _ = made(small())
    first = train_autoencoder(net, config.model_copy(update={"steps": 1}), training_context())
    last = train_autoencoder(net, config, training_context())
    assert last["reconstruction"] < 0.7 * first["reconstruction"]
    assert last["classifier"] < first["classifier"]


def test_the_same_lesson_gives_the_same_weights() -> None:
    found = []
    for _ in range(2):
        autoencoder, pair, latents = made(small())
        train_gan(pair, small().gan, latents, autoencoder, training_context(), discriminator_only=False)
        found.append(weights(pair))
    assert torch.equal(*found)


def test_a_training_that_diverges_says_so() -> None:
    autoencoder, pair, latents = made(small())
    torch.nn.init.constant_(pair.discriminator.head.weight, torch.nan)
    with pytest.raises(MethodError, match="lower the step sizes"):
        train_gan(pair, small().gan, latents, autoencoder, training_context(), discriminator_only=False)
