"""Training of a GAN and of a classifier at one site, with or without privacy for every picture.

Private: real and drawn pictures are rows of one pass through the discriminator, so that a step is one noisy sum; which
pictures are in it is a secret Poisson sample, and how many are drawn beside them does not depend on it. The generator
learns from the discriminator alone, which is post-processing. What comes of a private training (losses on drawn
pictures) comes from the noisy networks and public noise; the loss on real pictures would tell of them and is not even
looked at. While it goes on a private training tells of nothing but its steps. Knows no rounds and no accountant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from fednet.api import Progress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.private_gan.config import GanTrainConfig, PrivateClassifierConfig
from fednet.models.gan import Discriminator, Generator
from fednet.privacy.dp_sgd import PrivateTrainer
from fednet.privacy.noise import NoiseSource

BETA2 = 0.999


@dataclass(frozen=True)
class GradientProtection:
    """How a step's sum is protected: clipping norm, and noise in clipping norms."""

    clip: float
    noise: float


@dataclass(frozen=True)
class PrivateTrainingOptions:
    """How much is done, and with which random numbers.

    Attributes:
        steps: to take.
        rate: probability of a picture to be in a step.
        pace: a factor for all step sizes.
        protection: of every picture; None for none.
        source: draws the pictures of a step, and the noise.
        random: draws latent vectors, which are no secret.
        progress: hears of every step.
        open: whether the watch is told losses, which are what the pictures made of this very attempt.
        told: what else the watch is told, by step.
    """

    steps: int
    rate: float
    pace: float
    protection: GradientProtection | None
    source: NoiseSource
    random: torch.Generator
    progress: Progress
    open: bool = True
    told: Callable[[int], dict[str, float]] = lambda _step: {}


class PrivateDiscriminatorStep:
    """A discriminator that takes noisy steps."""

    def __init__(
        self,
        net: Discriminator,
        optimiser: _OptimiserFactory,
        drawn: int,
        expected: float,
        effort: PrivateTrainingOptions,
    ) -> None:
        protection = effort.protection or GradientProtection(math.inf, 0.0)
        self._trainer = PrivateTrainer(
            net, optimiser, clip=protection.clip, noise=protection.noise, expected=expected + drawn,
            source=effort.source, name="discriminator",
        )  # fmt: skip

    def step(self, real: Tensor, drawn: Tensor) -> dict[str, float]:
        """One step on real pictures (n, c, h, w), n >= 0, and drawn ones (m, c, h, w), m fixed."""
        logits = self._trainer.rows(torch.cat([real, drawn]))
        losses = torch.cat([softplus(-logits[: len(real)]), softplus(logits[len(real) :])])
        told = {"drawn_loss": float(losses[len(real) :].detach().mean())}
        self._trainer.step(losses)
        return told

    def held(self) -> AbstractContextManager[nn.Module]:
        """The discriminator, without its parameters learning."""
        return self._trainer.held()

    def close(self) -> None:
        """Leaves the network as it was, with what it has learnt."""
        self._trainer.close()


class PlainDiscriminatorStep:
    """A discriminator that takes ordinary steps; real and drawn pictures pass apart, as its batch norms want it."""

    def __init__(self, net: Discriminator, optimiser: _OptimiserFactory) -> None:
        self._net, self._optimiser = net.train(), optimiser(iter(net.parameters()))

    def step(self, real: Tensor, drawn: Tensor) -> dict[str, float]:
        """One step on real pictures (n, c, h, w), n >= 0, and drawn ones (m, c, h, w)."""
        on_drawn = softplus(self._net(drawn)).mean()
        on_real = softplus(-self._net(real)).mean() if len(real) else torch.zeros(())
        self._optimiser.zero_grad(set_to_none=True)
        (on_real + on_drawn).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._optimiser.step()
        return {"drawn_loss": float(on_drawn.detach()), "real_loss": float(on_real.detach())}

    @contextmanager
    def held(self) -> Iterator[nn.Module]:
        """The discriminator, without its parameters learning."""
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
    effort: PrivateTrainingOptions,
) -> dict[str, float]:
    """Trains both networks in place, on the device they are on, and leaves them in evaluation mode.

    Args:
        generator: draws.
        discriminator: is what sees the private pictures.
        images: real ones, float (n, c, h, w), n > 0; n is no secret.
        config: step sizes and batches.
        effort: how much, and how protected.

    Returns:
        Mean losses over the last half of the steps; without privacy that on real pictures too.

    Raises:
        MethodError: it diverges.
        PrivacyError: the discriminator cannot be trained privately.
        Stopped: the watch asks for the end.
    """
    device = next(generator.parameters()).device
    images, expected = images.to(device), effort.rate * len(images)
    drawn, maker = max(1, round(expected)), _adam(config.discriminator_lr * effort.pace, config.beta1)
    critic = (
        PlainDiscriminatorStep(discriminator, maker)
        if effort.protection is None
        else PrivateDiscriminatorStep(discriminator, maker, drawn, expected, effort)
    )
    learner = _adam(config.generator_lr * effort.pace, config.beta1)(iter(generator.train().parameters()))
    history: list[dict[str, float]] = []
    for step in range(effort.steps):
        real = images[effort.source.poisson(len(images), effort.rate).to(device)]
        with torch.no_grad():
            fakes = generator(generator.latents(drawn, effort.random).to(device))
        losses = critic.step(real, fakes)
        for _ in range(0 if (step + 1) % config.critic_steps else config.generator_steps):
            latents = generator.latents(config.generator_batch, effort.random).to(device)
            losses["generator_loss"] = _step_of(generator, learner, critic, latents)
        history.append(_require_finite(losses))
        said = losses if effort.open else {}
        effort.progress.report("training gan", step + 1, effort.steps, **said, **effort.told(step + 1))
    critic.close()
    generator.eval(), discriminator.eval()
    return _mean_losses(history)


def train_private_classifier(
    net: nn.Module, pictures: ImageSet, config: PrivateClassifierConfig, effort: PrivateTrainingOptions
) -> dict[str, float]:
    """Trains a classifier in place, privately or not, and leaves it in evaluation mode.

    Returns:
        Nothing where it is private: its loss would tell of the pictures. Else the mean loss of the last half.

    Raises:
        MethodError: it diverges.
        PrivacyError: the network cannot be trained privately.
        Stopped: the watch asks for the end.
    """
    device = next(net.parameters()).device
    images, labels = pictures.images.to(device), pictures.labels.to(device)
    protection = effort.protection or GradientProtection(1e9, 0.0)
    trainer = PrivateTrainer(
        net, _adam(config.lr * effort.pace, 0.9), clip=protection.clip, noise=protection.noise,
        expected=effort.rate * len(pictures), source=effort.source, name="classifier",
    )  # fmt: skip
    history: list[dict[str, float]] = []
    for step in range(effort.steps):
        chosen = effort.source.poisson(len(pictures), effort.rate).to(device)
        if len(chosen):
            losses = cross_entropy(trainer.rows(images[chosen]), labels[chosen], reduction="none")
            if effort.protection is None:
                history.append(_require_finite({"loss": float(losses.detach().mean())}))
            trainer.step(losses)
        else:
            trainer.step_without_rows()
        effort.progress.report("training classifier", step + 1, effort.steps, **effort.told(step + 1))
    trainer.close()
    net.eval()
    return _mean_losses(history)


def _step_of(
    generator: Generator,
    learner: torch.optim.Optimizer,
    critic: PrivateDiscriminatorStep | PlainDiscriminatorStep,
    latents: Tensor,
) -> float:
    """One step of the generator towards what the discriminator takes for real (the non-saturating loss)."""
    with critic.held() as held:
        loss = softplus(-held(generator(latents))).mean()
        learner.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        learner.step()
    return float(loss.detach())


def _adam(lr: float, beta1: float) -> _OptimiserFactory:
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=(beta1, BETA2))


def _require_finite(losses: dict[str, float]) -> dict[str, float]:
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise MethodError("the training diverges (a loss is not finite): lower the step sizes in train")
    return losses


def _mean_losses(history: Sequence[dict[str, float]]) -> dict[str, float]:
    last = history[len(history) // 2 :]
    seen = {name: [one[name] for one in last if name in one] for name in {name for one in last for name in one}}
    return {name: sum(values) / len(values) for name, values in sorted(seen.items())}
