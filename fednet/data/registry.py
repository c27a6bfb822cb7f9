"""Finds data sets: by name in the entry-point group `fednet.data`, or by the path of a module with a `DATASET`."""

from __future__ import annotations

from fednet.data.contract import Dataset
from fednet.errors import UnknownDataset
from fednet.plugins import PluginRegistry, missing_modules

_DATASETS = PluginRegistry("fednet.data", "DATASET", Dataset, UnknownDataset)


def names() -> tuple[str, ...]:
    """The registered data sets in alphabetical order; imports none of them."""
    return _DATASETS.names()


def find(name: str) -> Dataset:
    """The data set of this name.

    Args:
        name: a registered name (`digits`), or the path of a module that defines `DATASET` (`my_package.my_module`).

    Raises:
        UnknownDataset: nothing is registered under the name, its module cannot be imported (with the import's own
            message), or it defines no `Dataset`.
    """
    return _DATASETS.find(name)


def require_installed(dataset: Dataset) -> None:
    """Refuses a data set whose libraries are not installed; imports none of them.

    Raises:
        UnknownDataset: some are missing; the message names the extra that installs them.
    """
    if missing := missing_modules(dataset.requires):
        needed = f"it needs {', '.join(missing)}, not installed here: pip install '{dataset.extra}'"
        raise UnknownDataset(dataset.name, needed)
