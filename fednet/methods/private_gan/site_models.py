"""The models of a site: what each begins with, what it is now, and copies to train. Knows no pictures and no rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import nn

from fednet.api import ModelState, SiteContext
from fednet.federated.site_models import SiteModels, initial_network, network_from_state
from fednet.federated.state import detached_copy
from fednet.files import write_whole
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.messages import CLASSIFIER, GAN
from fednet.models.gan import Discriminator, Generator, Shape
from fednet.models.lenet import LeNet


class GanPair(nn.Module):
    """Generator and discriminator as one module, so that they are one state."""

    def __init__(self, config: PrivateGanConfig, shape: Shape) -> None:
        super().__init__()
        self.generator = Generator(config.model, shape)
        self.discriminator = Discriminator(config.model, shape)


class PrivateGanModels:
    """The models of a site that knows its pictures' shape.

    Attributes:
        models: their states.

    Raises:
        ModelError: there is no such device, or no GAN for this shape.
    """

    def __init__(self, config: PrivateGanConfig, site: SiteContext, shape: Shape, classes: int) -> None:
        self._config, self._site, self._shape, self._classes = config, site, shape, classes
        beginnings = {GAN: self._pair().state_dict(), CLASSIFIER: self._classifier().state_dict()}
        self.models = SiteModels(site.name, beginnings)

    def pair(self, state: ModelState | None = None) -> GanPair:
        """A GAN of its own in some state, on the device; in the present one where none is given."""
        return network_from_state(self._pair(), self.models.current_state(GAN) if state is None else state, self._site)

    def classifier(self, state: ModelState | None = None) -> LeNet:
        """A classifier of its own in some state, on the device; in the present one where none is given."""
        return network_from_state(
            self._classifier(), self.models.current_state(CLASSIFIER) if state is None else state, self._site
        )

    def save(self, model: str, number: int, notes: Mapping[str, object]) -> Path:
        """Writes a model as it is now with what is known of it, its epsilon before all."""
        path = self._site.folder / "checkpoints" / f"{self._site.name}-{model}.safetensors"
        note = json.dumps({"round": number, **notes}, sort_keys=True)
        write_whole(path, save(detached_copy(self.models.current_state(model)), {"fednet": note}))
        return path

    def _pair(self) -> GanPair:
        return initial_network(self._site.seed, GAN, lambda: GanPair(self._config, self._shape))

    def _classifier(self) -> LeNet:
        return initial_network(self._site.seed, CLASSIFIER, lambda: LeNet(self._shape[0], self._classes, dropout=0.0))
