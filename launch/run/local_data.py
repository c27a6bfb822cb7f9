"""The data sets and models that the nodes on this machine read: whether they are there, and what they hold.

Only those: what lies on another site's disk is nobody else's business. Which nodes are on this machine, their addresses
say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fednet.data.config import DataConfig
from fednet.data.site_data import site_data_config
from fednet.errors import MethodError, PrivacyError
from fednet.methods import registry
from launch.config.document import KeyPath
from launch.config.schema import DRIVER, LoadedConfig, NodeEntry
from launch.errors import ConfigError, ConfigProblem
from launch.run.devices import is_host_here

_TCP = re.compile(r"^tcp://\[?(?P<host>[^\]]+)\]?:(?P<port>\d+)$")


@dataclass(frozen=True)
class DataUse:
    """A data set of a run.

    Attributes:
        owners: the nodes that read it.
        key: where the configuration says so.
        overrides: what those nodes replace in the method's settings.
    """

    owners: tuple[str, ...]
    key: KeyPath
    overrides: dict[str, Any]


def tcp_endpoint(listen: str | None) -> tuple[str, int] | None:
    """Host and port of an address of tcp; None for any other."""
    match = _TCP.match(listen or "")
    return (match["host"], int(match["port"])) if match else None


def nodes_here(loaded: LoadedConfig) -> tuple[str, ...]:
    """The clients whose address is one of this machine or still to be chosen; and the driver, if all clients are."""
    endpoints = {name: tcp_endpoint(entry.listen) for name, entry in loaded.cluster.entries.items()}
    here = [name for name, endpoint in endpoints.items() if endpoint is None or is_host_here(endpoint[0])]
    return (*here, DRIVER) if len(here) == len(endpoints) else tuple(here)


def data_uses(loaded: LoadedConfig, names: Sequence[str]) -> Iterator[DataUse]:
    """The data sets that these nodes read, each once."""
    entries = {name: loaded.cluster.entries.get(name, NodeEntry()) for name in names}
    if sharing := tuple(name for name, entry in entries.items() if not entry.own_sections):
        yield DataUse(sharing, ("data",), {})
    for name, entry in entries.items():
        if own := entry.own_sections:
            yield DataUse((name,), ("nodes", name, next(iter(own))), own)


def check_data(loaded: LoadedConfig, names: Sequence[str] | None = None) -> None:
    """Refuses a configuration whose data are not on this machine, or cannot be protected, before anything starts.

    Args:
        loaded: the configuration.
        names: whose data; None for all clients' and the driver's.

    Raises:
        ConfigError: some are not there, or are malformed; or the privacy that is wanted cannot be had.
    """
    faults = dict[ConfigProblem, None]()
    for use in data_uses(loaded, (*loaded.cluster.entries, DRIVER) if names is None else names):
        try:
            registry.find(loaded.cluster.method).check(loaded.method, use.overrides)
        except PrivacyError as error:  # the same for all sites
            faults[data_problem(loaded, replace(use, key=("privacy",)), str(error))] = None
        except MethodError as error:
            faults[data_problem(loaded, use, str(error))] = None
    if faults:
        raise ConfigError(*faults)


def data_digest(loaded: LoadedConfig, names: Sequence[str] | None = None) -> str:
    """SHA-256 of the lists of files, with sizes and times, of data sets and models that lie on this machine.

    Args:
        loaded: the configuration.
        names: whose data, with what the driver measures with; None for all nodes of this machine.
    """
    listed = hashlib.sha256()
    for root in folders(loaded, nodes_here(loaded) if names is None else names):
        for path in sorted(root.rglob("*")):
            if path.is_file():
                state = path.stat()
                listed.update(f"{path.relative_to(root)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return listed.hexdigest()


def data_sets(loaded: LoadedConfig, names: Sequence[str]) -> Iterator[DataConfig]:
    """The data sets of nodes, with what the driver measures with; those of several nodes once."""
    sets = [data_config(loaded, use) for use in data_uses(loaded, names)]
    if DRIVER in names:
        sets.append(getattr(getattr(loaded.method, "measure", None), "data", None))
    return (data for data in sets if data is not None)


def folders(loaded: LoadedConfig, names: Sequence[str]) -> Iterator[Path]:
    """The folders that nodes read, each once: of their data, of their models, and of what the driver measures with."""
    roots = [str(data.root) for data in data_sets(loaded, names) if data.root is not None]
    yield from dict.fromkeys(Path(path).expanduser() for path in (*roots, *model_values(loaded, names, "path")))


def model_values(loaded: LoadedConfig, names: Sequence[str], key: str) -> Iterator[str]:
    """What the models of nodes have under a key, where they have it."""
    common = getattr(getattr(loaded.method, "model", None), key, None)
    values = [use.overrides.get("model", {}).get(key, common) for use in data_uses(loaded, names)]
    yield from (str(value) for value in values if value is not None)


def data_problem(loaded: LoadedConfig, use: DataUse, hint: str) -> ConfigProblem:
    """What is wrong with a data set, and where the configuration names it."""
    place = loaded.document.place((*use.key, "path" if use.key[-1] == "model" else "root"))
    return ConfigProblem(place.where, line=place.line, key=".".join(use.key), hint=hint)


def data_config(loaded: LoadedConfig, use: DataUse) -> DataConfig | None:
    """The data set that the nodes read; None where the method has none, or they need none.

    Where no client reads the run's, and nobody has named it, the driver has none.
    """
    common = getattr(loaded.method, "data", None)
    if not isinstance(common, DataConfig):
        return None
    reads = registry.find(loaded.cluster.method).reads_data
    if DRIVER not in use.owners:
        return site_data_config(common, use.overrides) if reads(loaded.method, use.overrides) else None
    clients = (entry.own_sections for entry in loaded.cluster.entries.values())
    shared = any("data" not in own and reads(loaded.method, own) for own in clients)
    return common if shared or common.model_fields_set & {"name", "root"} else None
