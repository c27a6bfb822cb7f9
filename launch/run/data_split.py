"""How the pictures of a run will be divided, what each site trains on and what measures; and whether the sites fit.

From lists of files alone, by the sites' announcers, before anything is started. Imports torch only where a site takes a
share of the run's data, or something is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednet.api import SiteContext
from fednet.data.site_data import check_data
from fednet.errors import MethodError
from fednet.methods import registry
from fednet.methods.common.announcer import ImageAnnouncer
from fednet.methods.common.config import ImageConfig
from fednet.methods.common.measuring_data import measuring_data, measuring_parts, unmeasured
from launch.config.schema import DRIVER, LoadedConfig
from launch.errors import ConfigError, ConfigProblem
from launch.run.local_data import DataUse, data_problem, data_uses


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


def require_fitting_data(loaded: LoadedConfig) -> None:
    """Refuses before anything is started what the sites, all of them on this machine, would refuse in the run.

    Raises:
        ConfigError: see `data_split`.
    """
    if isinstance(loaded.method, ImageConfig):
        data_split(loaded, loaded.method, (*loaded.cluster.entries, DRIVER))


def data_split(loaded: LoadedConfig, config: ImageConfig, here: Sequence[str]) -> DataSplit:
    """How the pictures will be divided.

    Where all sites are on this machine, they agree here already on what they would agree on in the run.

    Args:
        loaded: the configuration.
        config: its method's.
        here: the nodes of this machine.

    Raises:
        ConfigError: they cannot be divided as the configuration says, or the sites do not fit each other.
    """
    sites = _image_sites(loaded, here)
    own = {name: bool(one.data) for name, one in loaded.cluster.entries.items()}
    own |= {name: site.has_own_data() for name, site in sites.items()}
    if set(sites) == set(own):
        _agree(loaded, config, sites)
    faults: list[ConfigProblem] = []
    parts = {}
    for name, site in sites.items():
        with _noting(faults, loaded, _use(loaded, name)):
            parts[name] = site.parts()
    measuring: Mapping[str, int] = {}
    if DRIVER in here:
        with _noting(faults, loaded, DataUse((DRIVER,), ("measure",), {})):
            measuring = measuring_parts(config, own)
    _refuse(faults)
    note = "" if measuring_data(config, own) else unmeasured(config)
    return DataSplit(parts, frozenset(name for name, yes in own.items() if yes), measuring, note)


def _image_sites(loaded: LoadedConfig, here: Sequence[str]) -> dict[str, ImageAnnouncer[Any]]:
    """The sites of this machine, by name, as they are before they read anything.

    Raises:
        ConfigError: one of them is misconfigured.
    """
    cluster, make = loaded.cluster, registry.find(loaded.cluster.method).announcer
    faults: list[ConfigProblem] = []
    made = {}
    for index, (name, entry) in enumerate(cluster.entries.items()):
        if make is not None and name in here:
            context = SiteContext(name, index, len(cluster.entries), cluster.seed, "cpu", Path())
            with _noting(faults, loaded, _use(loaded, name)):
                made[name] = make(loaded.method, context, entry.own_sections)
    _refuse(faults)
    return {name: site for name, site in made.items() if isinstance(site, ImageAnnouncer)}


def _agree(loaded: LoadedConfig, config: ImageConfig, sites: Mapping[str, ImageAnnouncer[Any]]) -> None:
    """Has all sites of a run, and the asker, agree; what several sites share is read once.

    Raises:
        ConfigError: they do not fit each other, or not the configuration, or data of theirs are missing.
    """
    faults: list[ConfigProblem] = []
    announcements: dict[str, str] = {}
    method = registry.find(loaded.cluster.method)
    for use in data_uses(loaded, (*sites, DRIVER)):
        readers = [name for name in use.owners if name in sites]
        with _noting(faults, loaded, use):
            if readers:
                announcements |= dict.fromkeys(readers, sites[readers[0]].announce())
            elif method.reads_data(config, {}):
                check_data(config.data)  # named, and nobody's: still a mistake
    _refuse(faults)
    with _noting(faults, loaded, DataUse(tuple(sites), ("nodes",), {})):
        for site in sites.values():
            site.agree(announcements)
        method.agree(config, announcements)
    _refuse(faults)


def _use(loaded: LoadedConfig, name: str) -> DataUse:
    """The data set that a site reads."""
    return next(use for use in data_uses(loaded, tuple(loaded.cluster.entries)) if name in use.owners)


def _refuse(faults: Sequence[ConfigProblem]) -> None:
    """Refuses a configuration in which something is wrong; several sites may say the same."""
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


@contextmanager
def _noting(faults: list[ConfigProblem], loaded: LoadedConfig, use: DataUse) -> Iterator[None]:
    """Notes what a method refuses as a problem of the place that the configuration names a data set in."""
    try:
        yield
    except MethodError as error:
        faults.append(data_problem(loaded, use, str(error)))
