"""The federated models of one site as states by name: initial and current.

The networks that they belong to are the method's; a state of another network is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import nn

from fednet.api import ModelState, SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.state import detached_copy, require_valid
from fednet.seeds import derive, seeded

Net = TypeVar("Net", bound=nn.Module)


class SiteModels:
    """The models of one site.

    Args:
        name: the site's.
        initial: initial states by model, the same at every site.
    """

    def __init__(self, name: str, initial: Mapping[str, ModelState]) -> None:
        self._name = name
        self._initial = {model: detached_copy(state) for model, state in initial.items()}
        self._current: dict[str, ModelState] = dict(self._initial)

    def initial_state(self, model: str) -> ModelState:
        """The initial state of a model.

        Raises:
            MethodError: unknown model.
        """
        if model not in self._initial:
            raise MethodError(f"{self._name}: unknown model {model[:40]!r}; expected one of {', '.join(self._initial)}")
        return self._initial[model]

    def current_state(self, model: str) -> ModelState:
        """The current state of a model.

        Raises:
            MethodError: unknown model.
        """
        self.initial_state(model)
        return self._current[model]

    def set_state(self, model: str, state: ModelState, whose: str) -> None:
        """Replaces the current state of a model by a copy of `state`.

        Raises:
            ModelError: it is of another network, or not finite; nothing is changed.
        """
        require_valid(state, self.initial_state(model), whose)
        self._current[model] = detached_copy(state)


def initial_network(seed: int, *purpose: str, make: Callable[[], Net]) -> Net:
    """A network with the weights that the run's seed gives a model of this name."""
    with seeded(derive(seed, "init", *purpose)):
        return make()


def network_from_state(net: Net, state: ModelState, site: SiteContext) -> Net:
    """The network with a state, on the site's device, in evaluation mode.

    Raises:
        ModelError: the device cannot be used.
    """
    net.load_state_dict(dict(state))
    return on_device(net, site).eval()


def on_device(net: Net, site: SiteContext) -> Net:
    """A network on the site's device.

    Raises:
        ModelError: there is no such device.
    """
    try:
        return net.to(site.device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{site.name} cannot use the device {site.device!r}: {error}") from error
