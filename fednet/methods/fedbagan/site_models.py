"""The models of a site: copies to train, to encode with and to generate from. Knows no site data and no rounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fednet.api import ModelState, SiteContext
from fednet.federated.site_models import SiteModels, initial_network, network_from_state
from fednet.federated.state import detached_copy
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.gaussians import ClassGaussians, zero_moments
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, MOMENTS, PLAIN_GAN
from fednet.models.codec import Decoder, Encoder, ImageShape
from fednet.models.config import CodecConfig

CHUNK = 256
"""Pictures generated at once."""


class Autoencoder(nn.Module):
    """Encoder, decoder, and a linear classifier of latent vectors, whose loss keeps the classes apart."""

    def __init__(self, config: CodecConfig, shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, shape, config.latent)
        self.decoder = Decoder(config, shape)
        self.classifier = nn.Linear(config.latent, classes)


class BalancingGan(nn.Module):
    """Generator, its running average (which generates samples) and discriminator, as one state."""

    def __init__(self, config: CodecConfig, shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.generator = Decoder(config, shape)
        self.average = Decoder(config, shape)
        self.average.load_state_dict(self.generator.state_dict())
        self.discriminator = Encoder(config, shape, classes + 1)


class FedBaganModels:
    """The models of a site.

    Args:
        config: the run's.
        context: where the site lives.
        shape: channels, height and width of its pictures.
        classes: how many there are.

    Attributes:
        states: the models' states by name.

    Raises:
        ModelError: there is no such device, or no network for this shape.
    """

    def __init__(self, config: FedBaganConfig, context: SiteContext, shape: ImageShape, classes: int) -> None:
        self._config, self._context, self._shape, self._classes = config, context, shape, classes
        self.states = SiteModels(
            context.name,
            {
                AUTOENCODER: self._autoencoder().state_dict(),
                MOMENTS: zero_moments(context.count, classes, config.model.latent),
                GAN: self._gan(GAN).state_dict(),
                PLAIN_GAN: self._gan(PLAIN_GAN).state_dict(),
            },
        )

    def autoencoder(self, state: ModelState | None = None) -> Autoencoder:
        """A copy of the autoencoder in a given state, or else in the present one, on the site's device."""
        state = self.states.current_state(AUTOENCODER) if state is None else state
        return network_from_state(self._autoencoder(), state, self._context)

    def gan(self, model: str, state: ModelState | None = None) -> BalancingGan:
        """A copy of a GAN in a given state, or else in the present one, on the site's device."""
        state = self.states.current_state(model) if state is None else state
        return network_from_state(self._gan(model), state, self._context)

    def initial_gan(self) -> dict[str, Tensor]:
        """The GAN's state from the autoencoder: its decoder generates, its encoder's trunk discriminates."""
        source, gan = self.autoencoder(), self.gan(GAN, self.states.initial_state(GAN))
        gan.generator.load_state_dict(source.decoder.state_dict())
        gan.average.load_state_dict(source.decoder.state_dict())
        gan.discriminator.trunk.load_state_dict(source.encoder.trunk.state_dict())
        return detached_copy(gan.state_dict())

    def gaussians(self) -> ClassGaussians:
        """The classes' Gaussians, from the present moments.

        Raises:
            ModelError: no moments have been summed yet.
        """
        return ClassGaussians.of(self.states.current_state(MOMENTS), self._config.gaussians.shrinkage)

    @torch.no_grad()
    def draw(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Pictures float32 (n, c, h, w) in [-1, 1] on the CPU, of labels int64 (n,) and normal vectors (n, latent).

        Raises:
            ModelError: no moments have been summed yet, or no site has a picture of one of the classes.
        """
        latents, net = self.gaussians().place(labels, noise), self.gan(GAN).average
        chunks = [net(chunk.to(self._context.device)).cpu() for chunk in torch.split(latents, CHUNK)]
        return torch.cat(chunks).clamp(-1, 1)

    def _autoencoder(self) -> Autoencoder:
        seed, config = self._context.seed, self._config.model
        return initial_network(seed, AUTOENCODER, make=lambda: Autoencoder(config, self._shape, self._classes))

    def _gan(self, model: str) -> BalancingGan:
        config, shape, classes = self._config.model, self._shape, self._classes
        return initial_network(self._context.seed, model, make=lambda: BalancingGan(config, shape, classes))
