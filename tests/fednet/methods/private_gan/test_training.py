"""Training at one site: the rows of a step, the generator's share, and what a diverging training reports."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from fednet.api import NullProgress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.private_gan.config import GanTrainConfig, PrivateClassifierConfig
from fednet.methods.private_gan.training import (
    GradientProtection,
    PrivateDiscriminatorStep,
    PrivateTrainingOptions,
    train_gan,
    train_private_classifier,
)
from fednet.models.config import GanConfig
from fednet.models.gan import Discriminator, Generator
from fednet.models.lenet import LeNet
from fednet.privacy.noise import NoiseSource

PICTURES = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
PROTECTED = GradientProtection(1.0, 1.0)


def networks(kind: str = "dp-dcgan") -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    config = GanConfig.model_validate({"kind": kind, "latent": 4, "width": 8})
    return Generator(config, (1, 8, 8)), Discriminator(config, (1, 8, 8))


def effort(protection: GradientProtection | None = PROTECTED, **changes: Any) -> PrivateTrainingOptions:
    made = PrivateTrainingOptions(
        steps=4,
        rate=0.5,
        pace=1.0,
        protection=protection,
        source=NoiseSource.seeded(0),
        random=torch.Generator().manual_seed(0),
        progress=NullProgress(),
    )
    return dataclasses.replace(made, **changes)


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).clone()


@pytest.mark.parametrize(
    ("kind", "protection"),
    [("mlp", PROTECTED), ("dp-dcgan", PROTECTED), ("mlp", None), ("dp-dcgan", None), ("dcgan", None)],
)
def test_both_networks_learn(kind: str, protection: GradientProtection | None) -> None:
    generator, discriminator = networks(kind)
    before = weights(generator), weights(discriminator)
    losses = train_gan(generator, discriminator, PICTURES, GanTrainConfig(), effort(protection))
    assert not torch.equal(before[0], weights(generator))
    assert not torch.equal(before[1], weights(discriminator))
    assert set(losses) == {"generator_loss", "drawn_loss"} | (set() if protection else {"real_loss"})
    assert not generator.training
    assert not discriminator.training


def test_the_generator_sees_the_pictures_through_the_noisy_discriminator_only() -> None:
    """Other pictures, but the same discriminator after each step: the same generator, to the last bit."""
    states = []
    for pictures in (PICTURES, -PICTURES):
        generator, discriminator = networks()
        config = GanTrainConfig(discriminator_lr=1e-30)
        train_gan(generator, discriminator, pictures, config, effort())
        states.append(weights(generator))
    assert torch.equal(states[0], states[1])


def test_how_many_are_drawn_does_not_depend_on_the_secret_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one picture more would bring a drawn one with it, and move the sum by two clipping norms."""
    seen: list[tuple[int, int]] = []
    step = PrivateDiscriminatorStep.step

    def noted(self: PrivateDiscriminatorStep, real: torch.Tensor, drawn: torch.Tensor) -> dict[str, float]:
        seen.append((len(real), len(drawn)))
        return step(self, real, drawn)

    monkeypatch.setattr(PrivateDiscriminatorStep, "step", noted)
    train_gan(*networks(), PICTURES, GanTrainConfig(), effort(steps=8))
    assert len({real for real, _ in seen}) > 1
    assert {drawn for _, drawn in seen} == {15}


def test_which_pictures_are_in_a_step_comes_from_the_secret_source_and_what_is_drawn_does_not() -> None:
    """Amplification by sampling holds only while nobody knows the sample."""
    found = []
    for secret, public in ((0, 0), (1, 0), (0, 0)):
        networks_ = networks()
        noiseless = effort(
            GradientProtection(1.0, 0.0),
            source=NoiseSource.seeded(secret),
            random=torch.Generator().manual_seed(public),
        )
        train_gan(*networks_, PICTURES, GanTrainConfig(), noiseless)
        found.append(weights(networks_[1]))
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_with_more_steps_of_the_critic_the_generator_learns_less_often() -> None:
    moved = []
    for critic_steps in (1, 4, 5):
        generator, discriminator = networks()
        before = weights(generator)
        train_gan(generator, discriminator, PICTURES, GanTrainConfig(critic_steps=critic_steps), effort())
        moved.append(float((weights(generator) - before).norm()))
    assert moved[0] > moved[1] > moved[2] == 0.0


def test_an_empty_sample_is_a_step_like_any_other() -> None:
    discriminator = networks()[1]
    before = weights(discriminator)
    train_gan(networks()[0], discriminator, PICTURES, GanTrainConfig(), effort(rate=1e-9, steps=1))
    assert not torch.equal(before, weights(discriminator))
    torch.manual_seed(0)
    net = LeNet(1, 10, dropout=0.0)
    before = weights(net)
    pictures = ImageSet(PICTURES, torch.zeros(30, dtype=torch.int64), tuple("0123456789"))
    train_private_classifier(net, pictures, PrivateClassifierConfig(), effort(rate=1e-9, steps=1))
    assert not torch.equal(before, weights(net))


def test_a_classifier_learns_under_noise_and_tells_its_loss_only_without() -> None:
    labels = (PICTURES[:, 0, 0, 0] > 0).long()
    pictures = ImageSet(torch.where(labels[:, None, None, None] == 1, 0.7, -0.7) + 0.1 * PICTURES, labels, ("a", "b"))
    for protection in (GradientProtection(1.0, 0.3), None):
        torch.manual_seed(0)
        net = LeNet(1, 2, dropout=0.0)
        values = train_private_classifier(net, pictures, PrivateClassifierConfig(), effort(protection, steps=40))
        with torch.no_grad():
            assert float((net(pictures.images).argmax(1) == labels).double().mean()) > 0.9
        assert set(values) == (set() if protection else {"loss"})


class Hears:
    """A progress that keeps what it is given."""

    def __init__(self) -> None:
        self.reported: list[dict[str, float]] = []

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.reported.append({"done": done, **values})


@pytest.mark.parametrize("open_", [True, False])
def test_losses_are_told_on_the_way_only_where_nothing_is_protected(open_: bool) -> None:
    progress = Hears()
    train_gan(
        *networks(), PICTURES, GanTrainConfig(critic_steps=1), effort(report_losses=open_, progress=progress, steps=2)
    )
    losses = {"drawn_loss", "generator_loss"} if open_ else set()
    assert [values.keys() for values in progress.reported] == [{"done", *losses}] * 2


def test_a_private_classifier_does_not_even_look_at_its_loss() -> None:
    """That it is not finite would tell of the pictures, too."""
    labels = torch.zeros(30, dtype=torch.int64)
    pictures = ImageSet(torch.full_like(PICTURES, torch.inf), labels, ("a", "b"))
    train_private_classifier(LeNet(1, 2, dropout=0.0), pictures, PrivateClassifierConfig(), effort(rate=1.0, steps=1))
    with pytest.raises(MethodError, match="diverges"):
        train_private_classifier(
            LeNet(1, 2, dropout=0.0), pictures, PrivateClassifierConfig(), effort(None, rate=1.0, steps=1)
        )


def test_a_diverging_training_says_so() -> None:
    generator, discriminator = networks()
    with torch.no_grad():
        next(generator.parameters()).fill_(float("nan"))
    with pytest.raises(MethodError, match=r"diverges|not finite"):
        train_gan(generator, discriminator, PICTURES, GanTrainConfig(), effort())
