"""Training at one site: of the autoencoder, of the balancing GAN, and of the plain baseline GAN.

The balancing GAN samples the site's classes equally often, and generates a picture of the same class for every real
one. A class that the site does not have is left to the sites that have it, or its discriminator would learn that such
pictures are never real. The generator is trained through the discriminator with frozen parameters. The plain GAN
samples pictures uniformly and generates from standard normal vectors, without classes. Knows no rounds and no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from fednet.api import Progress
from fednet.data.datasets import ImageSet
from fednet.methods.common.training import descend, mean_of_last_half, require_finite_losses
from fednet.methods.fedbagan.config import AutoencoderConfig, BalancingGanConfig
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.methods.fedbagan.losses import LOSSES, Loss, discriminator_loss, generator_loss, make_optimiser, realness
from fednet.methods.fedbagan.site_models import Autoencoder, BalancingGan

CHUNK = 256
"""Pictures encoded at once."""
REMEDY = "lower the step sizes"


@dataclass(frozen=True)
class FedBaganTrainingContext:
    """What a site trains with.

    Attributes:
        pictures: the site's own.
        device: where the networks are.
        random: draws pictures, labels, latent vectors and noise; on the CPU, so that devices agree.
        progress: told of every step.
        balanced: whether every class of the site is sampled equally often, or every picture.
    """

    pictures: ImageSet
    device: str
    random: torch.Generator
    progress: Progress
    balanced: bool = True

    def real(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) and their labels (n,), drawn with replacement."""
        labels = self.pictures.labels
        weights = 1.0 / torch.bincount(labels)[labels] if self.balanced else torch.ones(len(labels))
        chosen = torch.multinomial(weights, count, replacement=True, generator=self.random)
        return self.pictures.images[chosen].to(self.device), labels[chosen].to(self.device)

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

    def draw(self, context: FedBaganTrainingContext, labels: Tensor) -> Tensor:
        """Vectors (n, latent), of the labels' Gaussians where there are any."""
        if self.gaussians is None:
            return context.noise(len(labels), self.latent)
        return self.gaussians.draw(labels.cpu(), context.random).to(context.device)


def train_autoencoder(
    net: Autoencoder, config: AutoencoderConfig, context: FedBaganTrainingContext
) -> dict[str, float]:
    """Trains an autoencoder in place and leaves it in evaluation mode.

    Returns:
        Mean losses over the last half of the steps.

    Raises:
        MethodError: it diverges.
        Stopped: `progress` asks for the end.
    """
    learner = make_optimiser("adam", net.train().parameters(), config.lr)
    history: list[dict[str, float]] = []
    for step in range(config.steps):
        images, labels = context.real(config.batch)
        latents = net.encoder(images)
        decoded = net.decoder(latents + config.noise * context.noise(*latents.shape))
        error = mse_loss(decoded, images)
        entropy = cross_entropy(net.classifier(latents), labels)
        descend(learner, error + config.penalty * latents.square().mean() + config.supervision * entropy)
        losses = {"reconstruction": float(error.detach()), "classifier": float(entropy.detach())}
        history.append(require_finite_losses(losses, REMEDY))
        context.progress.report("training autoencoder", step + 1, config.steps, **history[-1])
    net.eval()
    return mean_of_last_half(history)


@torch.no_grad()
def encode(net: Autoencoder, images: Tensor, device: str) -> Tensor:
    """Latent vectors (n, latent) of pictures, on the CPU."""
    return torch.cat([net.encoder(chunk.to(device)).cpu() for chunk in torch.split(images, CHUNK)])


class AdversarialTrainer:
    """Generator and discriminator in training against each other, one step at a time.

    Args:
        gan: both; trained in place.
        config: step sizes, batches and weights.
        latents: what the generator generates from.
        anchor: encodes real pictures that the generator must reconstruct; None for no anchor.
        context: what they train with.
    """

    def __init__(
        self,
        gan: BalancingGan,
        config: BalancingGanConfig,
        latents: LatentSampler,
        anchor: Autoencoder | None,
        context: FedBaganTrainingContext,
    ) -> None:
        self._gan, self._config, self._latents, self._context = gan.train(), config, latents, context
        self._anchor = anchor if config.anchor else None
        self._plain = latents.gaussians is None
        self._loss: Loss = LOSSES[config.loss]
        self._discriminator_optimiser = make_optimiser(
            config.optimiser, gan.discriminator.parameters(), config.discriminator_lr
        )
        self._generator_optimiser = make_optimiser(config.optimiser, gan.generator.parameters(), config.generator_lr)

    def discriminate(self) -> dict[str, float]:
        """One step of the discriminator, on real pictures and generated ones of the same classes."""
        images, labels = self._context.real(self._config.batch)
        with torch.no_grad():
            generated = self._gan.generator(self._latents.draw(self._context, labels))
        seen = self._noisy(images).requires_grad_(self._config.gradient_penalty > 0)
        on_real, on_generated = self._gan.discriminator(seen), self._gan.discriminator(self._noisy(generated))
        loss = discriminator_loss(self._config.game, self._loss, on_real, on_generated, labels, plain=self._plain)
        descend(self._discriminator_optimiser, loss + self._penalty(on_real, seen, labels))
        return {"discriminator_loss": float(loss.detach())}

    def generate(self) -> dict[str, float]:
        """One step of the generator, through the discriminator, whose parameters are frozen meanwhile."""
        images, labels = self._context.real(self._config.batch)
        self._gan.discriminator.requires_grad_(False)
        generated = self._gan.generator(self._latents.draw(self._context, labels))
        on_generated = self._gan.discriminator(self._noisy(generated))
        on_real = self._gan.discriminator(self._noisy(images))
        loss = generator_loss(self._config.game, self._loss, on_generated, on_real, None if self._plain else labels)
        descend(self._generator_optimiser, loss + self._anchored(images))
        self._gan.discriminator.requires_grad_(True)
        return {"generator_loss": float(loss.detach())}

    def _anchored(self, images: Tensor) -> Tensor | float:
        if self._anchor is None:
            return 0.0
        with torch.no_grad():
            latents = self._anchor.encoder(images)
        return self._config.anchor * mse_loss(self._gan.generator(latents), images)

    def _penalty(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor | float:
        """Half the weighted mean squared gradient of the discriminator's realness of real pictures."""
        if not images.requires_grad:
            return 0.0
        real = realness(logits, None if self._plain else labels)
        (gradient,) = torch.autograd.grad(real.sum(), images, create_graph=True)
        return self._config.gradient_penalty / 2 * gradient.square().flatten(1).sum(1).mean()

    def _noisy(self, images: Tensor) -> Tensor:
        return images + self._config.noise * self._context.noise(*images.shape) if self._config.noise else images


def train_gan(
    gan: BalancingGan,
    config: BalancingGanConfig,
    latents: LatentSampler,
    anchor: Autoencoder | None,
    context: FedBaganTrainingContext,
    *,
    discriminator_only: bool,
) -> dict[str, float]:
    """Trains a GAN in place, moves the average by one round, and leaves all in evaluation mode.

    Args:
        gan: the networks.
        config: how much and how.
        latents: what the generator generates from.
        anchor: see `AdversarialTrainer`.
        context: what they train with.
        discriminator_only: leaves the generator as it is.

    Returns:
        Mean losses over the last half of the steps.

    Raises:
        MethodError: it diverges.
        Stopped: `progress` asks for the end.
    """
    adversaries = AdversarialTrainer(gan, config, latents, anchor, context)
    history: list[dict[str, float]] = []
    for step in range(config.steps):
        losses = adversaries.discriminate()
        if not discriminator_only:
            losses |= adversaries.generate()
        history.append(require_finite_losses(losses, REMEDY))
        context.progress.report("training gan", step + 1, config.steps, **losses)
    _update_average(gan.average, gan.generator, config.average)
    gan.eval()
    return mean_of_last_half(history)


@torch.no_grad()
def _update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Linear, so that rounds may average it: the mean of the sites' averages is the average of their means."""
    for kept, now in zip(average.parameters(), net.parameters(), strict=True):
        kept.lerp_(now, 1 - decay)
