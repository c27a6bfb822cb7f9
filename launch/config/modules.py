"""Modules that a configuration names, for a method, data or a model, are looked for in its own folder first.

Knows the keys that may name a module; imports none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def names_modules(values: Mapping[str, Any]) -> bool:
    """Whether a configuration names a method or a data set by the path of its module, or a model by its factory's."""
    return any(isinstance(name, str) and ("." in name or ":" in name) for name in _names(values))


def make_importable(folder: Path) -> None:
    """Puts a folder first on this process's path of modules; the nodes that it starts get the same path."""
    path = str(folder.resolve())
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)


def _names(values: Mapping[str, Any]) -> Iterator[object]:
    yield values.get("method")
    nodes = values.get("nodes")
    for part in (values, *(nodes.values() if isinstance(nodes, Mapping) else ())):
        for section, key in (("data", "name"), ("data", "object"), ("model", "object")):
            named = part.get(section) if isinstance(part, Mapping) else None
            yield named.get(key) if isinstance(named, Mapping) else None
