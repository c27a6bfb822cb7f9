"""What a site has of the models that it trains with others: what each begins with, and what it is now.

Knows states by name; which networks they belong to, a method's bench knows. Refuses a state of another network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import nn

from fednet.api import ModelState, SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.state import detached_copy, require_finite, require_like
from fednet.seeds import derive

Net = TypeVar("Net", bound=nn.Module)


class SiteModels:
    """The models of one site.

    Args:
        name: the site's.
        beginnings: by model, what it begins with, the same at every site.
    """

    def __init__(self, name: str, beginnings: Mapping[str, ModelState]) -> None:
        self._name = name
        self._begin = {model: detached_copy(state) for model, state in beginnings.items()}
        self._now: dict[str, ModelState] = dict(self._begin)

    def initial_state(self, model: str) -> ModelState:
        """What a model begins with.

        Raises:
            MethodError: there is none of that name.
        """
        if model not in self._begin:
            raise MethodError(f"{self._name} has the models {', '.join(self._begin)}, not {model[:40]!r}")
        return self._begin[model]

    def now(self, model: str) -> ModelState:
        """What a model is now.

        Raises:
            MethodError: there is none of that name.
        """
        self.initial_state(model)
        return self._now[model]

    def take(self, model: str, state: ModelState, whose: str) -> None:
        """A model becomes `state`.

        Raises:
            ModelError: it is of another network, or not finite; nothing is changed.
        """
        require_like(state, self.initial_state(model), whose)
        require_finite(state, whose)
        self._now[model] = detached_copy(state)


def initial_network(seed: int, model: str, make: Callable[[], Net]) -> Net:
    """A network with the weights that the run's seed gives a model of this name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init", model))
        return make()


def network_from_state(net: Net, state: ModelState, site: SiteContext) -> Net:
    """A network with a state, on the site's device, in evaluation mode.

    Raises:
        ModelError: there is no such device.
    """
    net.load_state_dict(dict(state))
    try:
        return net.to(site.device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{site.name} cannot use the device {site.device!r}: {error}") from error
