"""The models of a site: what each begins with, what it is now, and copies to train. Knows no pictures and no rounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save
from torch import nn

from fednet.conversations import Site, State
from fednet.errors import MethodError, ModelError
from fednet.federated.state import frozen, require_finite, require_like
from fednet.files import write_whole
from fednet.methods.private_gan.config import Config
from fednet.methods.private_gan.words import CLASSIFIER, GAN
from fednet.models.gan import Discriminator, Generator, Shape
from fednet.models.lenet import LeNet
from fednet.seeds import derive

Net = TypeVar("Net", bound=nn.Module)


class Pair(nn.Module):
    """Generator and discriminator as one module, so that they are one state."""

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__()
        self.generator = Generator(config.model, shape)
        self.discriminator = Discriminator(config.model, shape)


class Bench:
    """The models of a site that knows its pictures' shape.

    Raises:
        ModelError: there is no such device, or no GAN for this shape.
    """

    def __init__(self, config: Config, site: Site, shape: Shape, classes: int) -> None:
        self._site = site
        self._makers: dict[str, Callable[[], nn.Module]] = {
            GAN: lambda: Pair(config, shape),
            CLASSIFIER: lambda: LeNet(shape[0], classes, dropout=0.0),
        }
        self._begin = {model: frozen(self._fresh(model).state_dict()) for model in self._makers}
        self._now: dict[str, State] = dict(self._begin)

    def begin(self, model: str) -> State:
        """What a model begins with: it depends on the run's seed alone.

        Raises:
            MethodError: there is none of that name.
        """
        self._require(model)
        return self._begin[model]

    def state(self, model: str) -> State:
        """What a model is now."""
        self._require(model)
        return self._now[model]

    def take(self, model: str, state: State, whose: str) -> None:
        """A model becomes `state`.

        Raises:
            ModelError: it is of another network, or not finite; nothing is changed.
        """
        require_like(state, self.begin(model), whose)
        require_finite(state, whose)
        self._now[model] = frozen(state)

    def pair(self, state: State | None = None) -> Pair:
        """A GAN of its own in some state, on the device; in the present one where none is given."""
        net = self._loaded(GAN, state)
        if not isinstance(net, Pair):
            raise ModelError("the GAN is no pair of networks: this is a fault of fednet")
        return net

    def classifier(self, state: State | None = None) -> nn.Module:
        """A classifier of its own in some state, on the device; in the present one where none is given."""
        return self._loaded(CLASSIFIER, state)

    def save(self, model: str, number: int, notes: Mapping[str, object]) -> Path:
        """Writes a model as it is now with what is known of it, its epsilon before all."""
        path = self._site.folder / "checkpoints" / f"{self._site.name}-{model}.safetensors"
        note = json.dumps({"round": number, **notes}, sort_keys=True)
        write_whole(path, save(frozen(self._now[model]), {"fednet": note}))
        return path

    def _loaded(self, model: str, state: State | None) -> nn.Module:
        net = self._fresh(model)
        net.load_state_dict(dict(self._now[model] if state is None else state))
        try:
            return net.to(self._site.device).eval()
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"{self._site.name} cannot use the device {self._site.device!r}: {error}") from error

    def _fresh(self, model: str) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self._site.seed, "init", model))
            return self._makers[model]()

    def _require(self, model: str) -> None:
        if model not in self._makers:
            raise MethodError(f"{self._site.name} has the models {', '.join(self._makers)}, not {model[:40]!r}")
