"""How the pictures of a run will be divided, for `fednet check`: what each site will train on, and what measures.

From lists of files alone, by the sites themselves, before anything is started. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fednet.api import SiteContext
from fednet.errors import MethodError
from fednet.methods import registry
from fednet.methods.common import measures
from fednet.methods.common.config import ImageConfig
from fednet.methods.common.site import ImageSite
from launch.config.schema import DRIVER, LoadedConfig
from launch.errors import ConfigError, ConfigProblem
from launch.run.local_data import DataUse, data_problem, data_uses
from nodes.spec import NodeSpec


@dataclass(frozen=True)
class DataSplit:
    """How the pictures of a run will be divided.

    Attributes:
        sites: by site of this machine, how many of its pictures are used for what.
        own: the sites whose pictures are their own.
        measuring: how many pictures the driver measures with, by use; none where it does not.
        note: why it does not.
    """

    sites: Mapping[str, Mapping[str, int]]
    own: frozenset[str]
    measuring: Mapping[str, int]
    note: str = ""


def require_fitting_data(loaded: LoadedConfig, specs: Sequence[NodeSpec]) -> None:
    """Refuses before anything is started what the sites, all of them on this machine, would refuse in the run.

    Raises:
        ConfigError: see `data_split`.
    """
    if isinstance(loaded.method, ImageConfig):
        data_split(loaded, loaded.method, specs)


def data_split(loaded: LoadedConfig, config: ImageConfig, specs: Sequence[NodeSpec]) -> DataSplit:
    """How the pictures will be divided.

    Where all sites are on this machine, they agree here already on what they would agree on in the run.

    Args:
        loaded: the configuration.
        config: its method's.
        specs: the nodes of this machine.

    Raises:
        ConfigError: they cannot be divided as the configuration says, or the sites do not fit each other.
    """
    faults: list[ConfigProblem] = []
    sites = dict(_image_sites(specs))
    own = {name: bool(one.data) for name, one in loaded.cluster.entries.items()}
    own |= {name: site.has_own_data() for name, site in sites.items()}
    parts = {}
    for name, site in sites.items():
        use = next(use for use in data_uses(loaded, tuple(own)) if name in use.owners)
        with _noting(faults, loaded, use):
            parts[name] = site.parts()
    measuring: Mapping[str, int] = {}
    if any(spec.name == DRIVER for spec in specs):
        with _noting(faults, loaded, DataUse((DRIVER,), ("measure",), {})):
            measuring = measures.measuring_parts(config, own)
    if not faults and set(sites) == set(own):
        with _noting(faults, loaded, DataUse(tuple(own), ("nodes",), {})):
            _agree(loaded, sites)
    if faults:
        raise ConfigError(*faults)
    note = "" if measures.measuring_data(config, own) else measures.unmeasured(config)
    return DataSplit(parts, frozenset(name for name, yes in own.items() if yes), measuring, note)


def _image_sites(specs: Sequence[NodeSpec]) -> Iterator[tuple[str, ImageSite[Any, Any]]]:
    """The sites of nodes, by name, as they are before they read anything."""
    for spec in (spec for spec in specs if spec.role == "client"):
        context = SiteContext(spec.name, spec.index, spec.count, spec.seed, spec.device, spec.folder)
        site = registry.find(spec.method).site(spec.config, context, spec.site)
        if isinstance(site, ImageSite):
            yield spec.name, site


def _agree(loaded: LoadedConfig, sites: Mapping[str, ImageSite[Any, Any]]) -> None:
    """Has all sites of a run, and the asker, agree.

    Raises:
        MethodError: they do not fit each other, or not the configuration.
    """
    announcements = {name: site.announce() for name, site in sites.items()}
    for site in sites.values():
        site.agree(announcements)
    registry.find(loaded.cluster.method).agree(loaded.method, announcements)


@contextmanager
def _noting(faults: list[ConfigProblem], loaded: LoadedConfig, use: DataUse) -> Iterator[None]:
    """Notes what a method refuses as a problem of the place that the configuration names a data set in."""
    try:
        yield
    except MethodError as error:
        faults.append(data_problem(loaded, use, str(error)))
