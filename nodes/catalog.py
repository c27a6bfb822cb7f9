"""The methods that can be run: one row each, by the name that a configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fednet.conversations import Answerer, Network, Site, Watch


@dataclass(frozen=True)
class Method:
    """A method by the names of its modules, so that listing methods imports none of them.

    `fednet.methods.<folder>.config` has `Config`, and `check(config, own)` (whether the data are there);
    `fednet.methods.<folder>.method` has `agent(config, site, own)` (the side that answers) and
    `run(config, network, folder, seed, watch)` (the side that asks).
    """

    folder: str

    @property
    def config(self) -> type[BaseModel]:
        """The pydantic model of the method's own keys."""
        return self._module("config").Config  # type: ignore[no-any-return]

    @property
    def check(self) -> Callable[[BaseModel, Mapping[str, Any]], None]:
        """Looks whether what a configuration needs is on this machine; the second argument is a site's own."""
        return self._module("config").check  # type: ignore[no-any-return]

    @property
    def agent(self) -> Callable[[BaseModel, Site, Mapping[str, Any]], Answerer]:
        """Makes the side that holds data and a model."""
        return self._module("method").agent  # type: ignore[no-any-return]

    @property
    def run(self) -> Callable[[BaseModel, Network, Path, int, Watch], None]:
        """Does the method's job over a network, and leaves its results in the run's folder."""
        return self._module("method").run  # type: ignore[no-any-return]

    def _module(self, name: str) -> Any:
        return import_module(f"fednet.methods.{self.folder}.{name}")


METHODS: dict[str, Method] = {
    "score-inference": Method("score_inference"),
    "novelty": Method("novelty"),
    "private-gan": Method("private_gan"),
    "cmtii": Method("cmtii"),
    "fedbagan": Method("fedbagan"),
    "regression": Method("regression"),
}
