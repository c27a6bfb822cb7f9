"""Training at one site: of the autoencoder, of the balancing GAN, and of the plain GAN that it is compared with.

The balancing GAN sees the site's classes equally often, and draws a picture of the same class for every real one. A
class that the site does not have is left to the sites that have it, or its discriminator would learn that such pictures
are never real. The generator learns through the discriminator, which is held meanwhile; only the discriminator's own
fakes are detached. The plain GAN takes pictures as they come and draws from standard normal vectors, of no class in
particular. Knows no rounds and no network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from fednet.api import Progress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.fedbagan.config import AutoencoderConfig, BalancingGanConfig
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.methods.fedbagan.losses import LOSSES, Loss, discriminator_loss, generator_loss, make_optimiser, realness
from fednet.methods.fedbagan.site_models import Autoencoder, BalancingGan

CHUNK = 256
"""Pictures encoded at once."""


@dataclass(frozen=True)
class FedBaganTrainingContext:
    """What a site trains with.

    Attributes:
        pictures: the site's own.
        device: where the networks are.
        random: draws pictures, labels, latent vectors and noise; on the CPU, so that devices agree.
        progress: hears of every step.
        balanced: whether every class of the site comes equally often, or as its pictures come.
    """

    pictures: ImageSet
    device: str
    random: torch.Generator
    progress: Progress
    balanced: bool = True

    def real(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) and their labels (n,), drawn with replacement."""
        owned = self.pictures.labels
        weights = 1.0 / torch.bincount(owned)[owned] if self.balanced else torch.ones(len(owned))
        chosen = torch.multinomial(weights, count, replacement=True, generator=self.random)
        return self.pictures.images[chosen].to(self.device), owned[chosen].to(self.device)

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.random).to(self.device)


@dataclass(frozen=True)
class LatentSampler:
    """Where the latent vectors of a GAN come from: the classes' Gaussians, or one standard normal for all.

    Attributes:
        latent: numbers in a vector.
        gaussians: None for the standard normal.
    """

    latent: int
    gaussians: ClassGaussians | None

    def draw(self, lesson: FedBaganTrainingContext, labels: Tensor) -> Tensor:
        """Vectors (n, latent), of the labels if there is a Gaussian for each."""
        if self.gaussians is None:
            return lesson.noise(len(labels), self.latent)
        return self.gaussians.draw(labels.cpu(), lesson.random).to(lesson.device)


def train_autoencoder(net: Autoencoder, config: AutoencoderConfig, lesson: FedBaganTrainingContext) -> dict[str, float]:
    """Trains an autoencoder in place and leaves it in evaluation mode.

    Returns:
        Mean losses over the last half of the steps.

    Raises:
        MethodError: it diverges.
        Stopped: the watch asks for the end.
    """
    learner = make_optimiser("adam", net.train().parameters(), config.lr)
    history: list[dict[str, float]] = []
    for step in range(config.steps):
        images, labels = lesson.real(config.batch)
        latents = net.encoder(images)
        decoded = net.decoder(latents + config.noise * lesson.noise(*latents.shape))
        error = mse_loss(decoded, images)
        told = cross_entropy(net.classifier(latents), labels)
        _optimiser_step(learner, error + config.penalty * latents.square().mean() + config.supervision * told)
        history.append(_require_finite({"reconstruction": float(error.detach()), "classifier": float(told.detach())}))
        lesson.progress.report("training autoencoder", step + 1, config.steps, **history[-1])
    net.eval()
    return _mean_losses(history)


@torch.no_grad()
def encode(net: Autoencoder, images: Tensor, device: str) -> Tensor:
    """Latent vectors (n, latent) of pictures, on the CPU."""
    return torch.cat([net.encoder(chunk.to(device)).cpu() for chunk in torch.split(images, CHUNK)])


class AdversarialTrainer:
    """Generator and discriminator in training against each other, one step at a time.

    Args:
        pair: both; trained in place.
        config: step sizes, batches and weights.
        latents: what the generator draws from.
        anchor: encodes real pictures, which the generator must still decode; None for no anchor.
        lesson: what they train with.
    """

    def __init__(
        self,
        pair: BalancingGan,
        config: BalancingGanConfig,
        latents: LatentSampler,
        anchor: Autoencoder | None,
        lesson: FedBaganTrainingContext,
    ) -> None:
        self._pair, self._config, self._latents, self._lesson = pair.train(), config, latents, lesson
        self._anchor = anchor if config.anchor else None
        self._plain = latents.gaussians is None
        self._loss: Loss = LOSSES[config.loss]
        self._critic = make_optimiser(config.optimiser, pair.discriminator.parameters(), config.discriminator_lr)
        self._drawer = make_optimiser(config.optimiser, pair.generator.parameters(), config.generator_lr)

    def discriminate(self) -> dict[str, float]:
        """One step of the discriminator, on real pictures and drawn ones of the same classes."""
        images, labels = self._lesson.real(self._config.batch)
        with torch.no_grad():
            drawn = self._pair.generator(self._latents.draw(self._lesson, labels))
        seen = self._blurred(images).requires_grad_(self._config.gradient_penalty > 0)
        on_real, on_drawn = self._pair.discriminator(seen), self._pair.discriminator(self._blurred(drawn))
        loss = discriminator_loss(self._config.game, self._loss, on_real, on_drawn, labels, plain=self._plain)
        _optimiser_step(self._critic, loss + self._penalty(on_real, seen, labels))
        return {"discriminator_loss": float(loss.detach())}

    def generate(self) -> dict[str, float]:
        """One step of the generator, through the discriminator, whose parameters are held."""
        images, labels = self._lesson.real(self._config.batch)
        self._pair.discriminator.requires_grad_(False)
        drawn = self._pair.generator(self._latents.draw(self._lesson, labels))
        on_drawn = self._pair.discriminator(self._blurred(drawn))
        on_real = self._pair.discriminator(self._blurred(images))
        loss = generator_loss(self._config.game, self._loss, on_drawn, on_real, None if self._plain else labels)
        _optimiser_step(self._drawer, loss + self._anchored(images))
        self._pair.discriminator.requires_grad_(True)
        return {"generator_loss": float(loss.detach())}

    def _anchored(self, images: Tensor) -> Tensor | float:
        if self._anchor is None:
            return 0.0
        with torch.no_grad():
            latents = self._anchor.encoder(images)
        return self._config.anchor * mse_loss(self._pair.generator(latents), images)

    def _penalty(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor | float:
        """Half the weighted mean squared gradient of how real the discriminator takes real pictures to be."""
        if not images.requires_grad:
            return 0.0
        real = realness(logits, None if self._plain else labels)
        (gradient,) = torch.autograd.grad(real.sum(), images, create_graph=True)
        return self._config.gradient_penalty / 2 * gradient.square().flatten(1).sum(1).mean()

    def _blurred(self, images: Tensor) -> Tensor:
        return images + self._config.noise * self._lesson.noise(*images.shape) if self._config.noise else images


def train_gan(
    pair: BalancingGan,
    config: BalancingGanConfig,
    latents: LatentSampler,
    anchor: Autoencoder | None,
    lesson: FedBaganTrainingContext,
    *,
    alone: bool,
) -> dict[str, float]:
    """Trains a GAN in place, moves the average by one round, and leaves all in evaluation mode.

    Args:
        pair: the networks.
        config: how much and how.
        latents: what the generator draws from.
        anchor: see `AdversarialTrainer`.
        lesson: what they train with.
        alone: the discriminator learns alone.

    Returns:
        Mean losses over the last half of the steps.

    Raises:
        MethodError: it diverges.
        Stopped: the watch asks for the end.
    """
    adversaries = AdversarialTrainer(pair, config, latents, anchor, lesson)
    history: list[dict[str, float]] = []
    for step in range(config.steps):
        losses = adversaries.discriminate()
        if not alone:
            losses |= adversaries.generate()
        history.append(_require_finite(losses))
        lesson.progress.report("training gan", step + 1, config.steps, **losses)
    _update_average(pair.average, pair.generator, config.average)
    pair.eval()
    return _mean_losses(history)


@torch.no_grad()
def _update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """The mean of the sites' averages is the average of their means: it is linear, so rounds may average it."""
    for kept, now in zip(average.parameters(), net.parameters(), strict=True):
        kept.lerp_(now, 1 - decay)


def _optimiser_step(learner: torch.optim.Optimizer, loss: Tensor) -> None:
    learner.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    learner.step()


def _require_finite(losses: dict[str, float]) -> dict[str, float]:
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise MethodError(f"the training diverges (losses {losses}): lower the step sizes")
    return losses


def _mean_losses(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The means of what was told in the last half of the steps."""
    last = history[len(history) // 2 :]
    return {name: sum(one[name] for one in last) / len(last) for name in sorted(last[-1])}
