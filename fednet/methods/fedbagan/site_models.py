"""The models of a site: copies to train, to read latent vectors with and to draw from. Knows no pictures, no rounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fednet.api import ModelState, SiteContext
from fednet.federated.site_models import SiteModels, initial_network, network_from_state
from fednet.federated.state import detached_copy
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.gaussians import ClassGaussians, zero_moments
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, MOMENTS, PLAIN_GAN
from fednet.models.codec import CodecConfig, Decoder, Encoder, ImageShape

CHUNK = 256
"""Pictures drawn at once."""


class Autoencoder(nn.Module):
    """Encoder, decoder, and a linear classifier of latent vectors that keeps the classes apart in them."""

    def __init__(self, config: CodecConfig, shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, shape, config.latent)
        self.decoder = Decoder(config, shape)
        self.classifier = nn.Linear(config.latent, classes)


class BalancingGan(nn.Module):
    """Generator and discriminator, and the running average of the generator, which is what draws; one state."""

    def __init__(self, config: CodecConfig, shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.generator = Decoder(config, shape)
        self.average = Decoder(config, shape)
        self.average.load_state_dict(self.generator.state_dict())
        self.discriminator = Encoder(config, shape, classes + 1)


class FedBaganModels:
    """The models of a site that knows its pictures' shape.

    Raises:
        ModelError: there is no such device, or no network for this shape.
    """

    def __init__(self, config: FedBaganConfig, site: SiteContext, shape: ImageShape, classes: int) -> None:
        self._config, self._site, self._shape, self._classes = config, site, shape, classes
        self.models = SiteModels(
            site.name,
            {
                AUTOENCODER: self._autoencoder().state_dict(),
                MOMENTS: zero_moments(site.count, classes, config.model.latent),
                GAN: self._pair(GAN).state_dict(),
                PLAIN_GAN: self._pair(PLAIN_GAN).state_dict(),
            },
        )

    def autoencoder(self, state: ModelState | None = None) -> Autoencoder:
        """An autoencoder of its own in some state, on the device; in the present one where none is given."""
        return network_from_state(
            self._autoencoder(), self.models.current_state(AUTOENCODER) if state is None else state, self._site
        )

    def pair(self, model: str, state: ModelState | None = None) -> BalancingGan:
        """A GAN of its own in some state, on the device; in the present one where none is given."""
        return network_from_state(self._pair(model), self.models.current_state(model) if state is None else state, self._site)

    def initial_gan(self) -> dict[str, Tensor]:
        """The GAN that the autoencoder makes: the decoder generates, the encoder's trunk discriminates."""
        source, pair = self.autoencoder(), self.pair(GAN, self.models.initial_state(GAN))
        pair.generator.load_state_dict(source.decoder.state_dict())
        pair.average.load_state_dict(source.decoder.state_dict())
        pair.discriminator.trunk.load_state_dict(source.encoder.trunk.state_dict())
        return detached_copy(pair.state_dict())

    def gaussians(self) -> ClassGaussians:
        """The classes' Gaussians, of the moments as they are now.

        Raises:
            ModelError: no moments have been summed yet.
        """
        return ClassGaussians.of(self.models.current_state(MOMENTS), self._config.gaussians.shrinkage)

    @torch.no_grad()
    def draw(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Pictures float32 (n, c, h, w) in [-1, 1] on the CPU, of labels int64 (n,) and normal vectors (n, latent).

        Raises:
            ModelError: no moments have been summed yet, or nobody has a picture of one of the classes.
        """
        latents, net = self.gaussians().place(labels, noise), self.pair(GAN).average
        chunks = [net(chunk.to(self._site.device)).cpu() for chunk in torch.split(latents, CHUNK)]
        return torch.cat(chunks).clamp(-1, 1)

    def _autoencoder(self) -> Autoencoder:
        seed, config = self._site.seed, self._config.model
        return initial_network(seed, AUTOENCODER, lambda: Autoencoder(config, self._shape, self._classes))

    def _pair(self, model: str) -> BalancingGan:
        return initial_network(
            self._site.seed, model, lambda: BalancingGan(self._config.model, self._shape, self._classes)
        )
