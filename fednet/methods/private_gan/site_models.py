"""The models of a site: what each begins with, what it is now, and copies to train. Knows no site data, no rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from fednet.api import ModelState, SiteContext
from fednet.federated.site_models import SiteModels, initial_network, network_from_state
from fednet.methods.common.checkpoint import write_checkpoint
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
    """The models of a site.

    Args:
        config: the run's.
        context: where the site lives.
        shape: channels, height and width of its pictures.
        classes: how many there are.

    Attributes:
        states: the models' states by name.
        shape: as given.

    Raises:
        ModelError: there is no such device, or no GAN for this shape.
    """

    def __init__(self, config: PrivateGanConfig, context: SiteContext, shape: Shape, classes: int) -> None:
        self._config, self._context, self.shape, self._classes = config, context, shape, classes
        initial = {GAN: self._gan().state_dict(), CLASSIFIER: self._classifier().state_dict()}
        self.states = SiteModels(context.name, initial)

    def gan(self, state: ModelState | None = None) -> GanPair:
        """A copy of the GAN in a given state, or else in the present one, on the site's device."""
        state = self.states.current_state(GAN) if state is None else state
        return network_from_state(self._gan(), state, self._context)

    def classifier(self, state: ModelState | None = None) -> LeNet:
        """A copy of the classifier in a given state, or else in the present one, on the site's device."""
        state = self.states.current_state(CLASSIFIER) if state is None else state
        return network_from_state(self._classifier(), state, self._context)

    def save(self, model: str, number: int, notes: Mapping[str, object]) -> Path:
        """Writes a model as it is now, with notes: its round, its epsilon."""
        path = self._context.folder / "checkpoints" / f"{self._context.name}-{model}.safetensors"
        note = json.dumps({"round": number, **notes}, sort_keys=True)
        write_checkpoint(path, self.states.current_state(model), "fednet", note)
        return path

    def _gan(self) -> GanPair:
        return initial_network(self._context.seed, GAN, make=lambda: GanPair(self._config, self.shape))

    def _classifier(self) -> LeNet:
        return initial_network(
            self._context.seed, CLASSIFIER, make=lambda: LeNet(self.shape[0], self._classes, dropout=0.0)
        )
