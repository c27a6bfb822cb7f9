"""Training of a GAN and of a classifier at one site, with or without privacy for every picture.

Private: real and generated pictures are rows of one pass through the discriminator, so that a step is one noisy sum.
Which pictures are in it is a secret Poisson sample, and the number of generated ones does not depend on it. The
generator is trained through the discriminator alone, which is post-processing. The losses that a private training
returns (on generated pictures) depend on the noisy networks and public noise; the loss on real pictures is not
computed, since it would leak. While it goes on, a private training reports nothing but its steps. Knows no rounds and
no accountant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from fednet.api import Progress
from fednet.data.datasets import ImageSet
from fednet.methods.common.training import descend, mean_of_last_half, require_finite_losses
from fednet.methods.private_gan.config import GanTrainConfig, PrivateClassifierConfig
from fednet.models.gan import Discriminator, Generator
from fednet.privacy.dp_sgd import PrivateTrainer
from fednet.privacy.noise import NoiseSource

BETA2 = 0.999
REMEDY = "lower the step sizes in train"


@dataclass(frozen=True)
class GradientProtection:
    """How a step's sum is protected: clipping norm, and noise in clipping norms."""

    clip: float
    noise: float


@dataclass(frozen=True)
class PrivateTrainingOptions:
    """How much is trained, how protected, and with which random numbers.

    Attributes:
        steps: to take.
        rate: probability of each picture to be in a step.
        pace: a factor for all step sizes.
        protection: of every picture; None for none.
        source: draws the pictures of a step, and the noise.
        random: draws latent vectors, which are no secret.
        progress: told of every step.
        report_losses: whether losses are reported on the way; they depend on the pictures.
        spent: what else is reported, by step.
    """

    steps: int
    rate: float
    pace: float
    protection: GradientProtection | None
    source: NoiseSource
    random: torch.Generator
    progress: Progress
    report_losses: bool = True
    spent: Callable[[int], dict[str, float]] = lambda _step: {}


class PrivateDiscriminatorStep:
    """A discriminator that takes noisy steps."""

    def __init__(
        self,
        net: Discriminator,
        optimiser: _OptimiserFactory,
        generated: int,
        expected: float,
        options: PrivateTrainingOptions,
    ) -> None:
        protection = options.protection or GradientProtection(math.inf, 0.0)
        self._trainer = PrivateTrainer(
            net, optimiser, clip=protection.clip, noise=protection.noise, expected=expected + generated,
            source=options.source, name="discriminator",
        )  # fmt: skip

    def step(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        """One step on real pictures (n, c, h, w), n >= 0, and generated ones (m, c, h, w), m fixed."""
        logits = self._trainer.rows(torch.cat([real, generated]))
        losses = torch.cat([softplus(-logits[: len(real)]), softplus(logits[len(real) :])])
        measured = {"drawn_loss": float(losses[len(real) :].detach().mean())}
        self._trainer.step(losses)
        return measured

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """The discriminator with frozen parameters."""
        return self._trainer.held()

    def close(self) -> None:
        """Removes the hooks; the network keeps its weights."""
        self._trainer.close()


class PlainDiscriminatorStep:
    """A discriminator that takes ordinary steps; real and generated pictures pass apart, for its batch norms."""

    def __init__(self, net: Discriminator, optimiser: _OptimiserFactory) -> None:
        self._net, self._optimiser = net.train(), optimiser(iter(net.parameters()))

    def step(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        """One step on real pictures (n, c, h, w), n >= 0, and generated ones (m, c, h, w)."""
        on_generated = softplus(self._net(generated)).mean()
        on_real = softplus(-self._net(real)).mean() if len(real) else torch.zeros(())
        descend(self._optimiser, on_real + on_generated)
        return {"drawn_loss": float(on_generated.detach()), "real_loss": float(on_real.detach())}

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The discriminator with frozen parameters."""
        self._net.requires_grad_(False)
        try:
            yield self._net
        finally:
            self._net.requires_grad_(True)

    def close(self) -> None:
        """Nothing to do."""


_OptimiserFactory = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


def train_gan(
    generator: Generator,
    discriminator: Discriminator,
    images: Tensor,
    config: GanTrainConfig,
    options: PrivateTrainingOptions,
) -> dict[str, float]:
    """Trains both networks in place, on the device they are on, and leaves them in evaluation mode.

    Args:
        generator: sees no private picture.
        discriminator: the only network that sees the private pictures.
        images: real ones, float (n, c, h, w), n > 0; n is no secret.
        config: step sizes and batches.
        options: how much, and how protected.

    Returns:
        Mean losses over the last half of the steps; without privacy that on real pictures too.

    Raises:
        MethodError: it diverges.
        PrivacyError: the discriminator cannot be trained privately.
        Stopped: `progress` asks for the end.
    """
    device = next(generator.parameters()).device
    images, expected = images.to(device), options.rate * len(images)
    generated, maker = max(1, round(expected)), _adam(config.discriminator_lr * options.pace, config.beta1)
    critic = (
        PlainDiscriminatorStep(discriminator, maker)
        if options.protection is None
        else PrivateDiscriminatorStep(discriminator, maker, generated, expected, options)
    )
    learner = _adam(config.generator_lr * options.pace, config.beta1)(iter(generator.train().parameters()))
    history: list[dict[str, float]] = []
    for step in range(options.steps):
        real = images[options.source.poisson(len(images), options.rate).to(device)]
        with torch.no_grad():
            fakes = generator(generator.latents(generated, options.random).to(device))
        losses = critic.step(real, fakes)
        for _ in range(0 if (step + 1) % config.critic_steps else config.generator_steps):
            latents = generator.latents(config.generator_batch, options.random).to(device)
            losses["generator_loss"] = _generator_step(generator, learner, critic, latents)
        history.append(require_finite_losses(losses, REMEDY))
        reported = losses if options.report_losses else {}
        options.progress.report("training gan", step + 1, options.steps, **reported, **options.spent(step + 1))
    critic.close()
    generator.eval(), discriminator.eval()
    return mean_of_last_half(history)


def train_private_classifier(
    net: nn.Module, pictures: ImageSet, config: PrivateClassifierConfig, options: PrivateTrainingOptions
) -> dict[str, float]:
    """Trains a classifier in place, privately or not, and leaves it in evaluation mode.

    Returns:
        Nothing where it is private: its loss would tell of the pictures. Else the mean loss of the last half.

    Raises:
        MethodError: it diverges.
        PrivacyError: the network cannot be trained privately.
        Stopped: `progress` asks for the end.
    """
    device = next(net.parameters()).device
    images, labels = pictures.images.to(device), pictures.labels.to(device)
    protection = options.protection or GradientProtection(1e9, 0.0)
    trainer = PrivateTrainer(
        net, _adam(config.lr * options.pace, 0.9), clip=protection.clip, noise=protection.noise,
        expected=options.rate * len(pictures), source=options.source, name="classifier",
    )  # fmt: skip
    history: list[dict[str, float]] = []
    for step in range(options.steps):
        chosen = options.source.poisson(len(pictures), options.rate).to(device)
        if len(chosen):
            losses = cross_entropy(trainer.rows(images[chosen]), labels[chosen], reduction="none")
            if options.protection is None:
                history.append(require_finite_losses({"loss": float(losses.detach().mean())}, REMEDY))
            trainer.step(losses)
        else:
            trainer.step_without_rows()
        options.progress.report("training classifier", step + 1, options.steps, **options.spent(step + 1))
    trainer.close()
    net.eval()
    return mean_of_last_half(history)


def _generator_step(
    generator: Generator,
    learner: torch.optim.Optimizer,
    critic: PrivateDiscriminatorStep | PlainDiscriminatorStep,
    latents: Tensor,
) -> float:
    """One step of the generator towards what the discriminator classifies as real (the non-saturating loss)."""
    with critic.frozen() as discriminator:
        loss = softplus(-discriminator(generator(latents))).mean()
        descend(learner, loss)
    return float(loss.detach())


def _adam(lr: float, beta1: float) -> _OptimiserFactory:
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=(beta1, BETA2))
