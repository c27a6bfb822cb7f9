"""Modules that a configuration names, for a method, data, a model or a rule, are looked for in its own folder first.

Knows the keys that may name a module; imports none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_KEYS = {"data": ("name", "object"), "model": ("object",), "rule": ("kind",)}
"""The keys of a section that may name a module, wherever the section stands."""


def named_modules(values: Mapping[str, Any]) -> list[str]:
    """The modules of a method, data sets and rules that are named by their path, and of factories."""
    return list(dict.fromkeys(name.partition(":")[0] for name in plugin_names(values) if "." in name or ":" in name))


def plugin_names(values: Mapping[str, Any]) -> list[str]:
    """The method, data sets and rules of a configuration, as they are named, and the factories."""
    return [name for name in (values.get("method"), *_names_below(values)) if isinstance(name, str)]


def make_importable(folder: Path) -> None:
    """Puts a folder first on this process's path of modules; the nodes that it starts get the same path."""
    path = str(folder.resolve())
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)


def _names_below(part: object) -> Iterator[object]:
    """The names of the data sets, models and rules of a section and of those within it."""
    for key, value in part.items() if isinstance(part, Mapping) else ():
        rules = value if key == "rule" and isinstance(value, list) else [value]
        if key == "rule":
            yield from rules
        for section in rules:
            for inner in _KEYS.get(key, ()) if isinstance(section, Mapping) else ():
                yield section.get(inner)
            yield from _names_below(section)
