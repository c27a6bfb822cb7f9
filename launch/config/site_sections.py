"""What a node says for itself of the method's configuration (`data`, `model`), and the paths in such sections.

Checked against the method's own model of the section; paths are relative to the file that says them. Knows no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from fednet.methods import registry
from fednet.methods.site_config import merged
from launch.config.document import KeyPath, YamlDocument
from launch.config.validation import validate_model
from launch.errors import ConfigError, ConfigProblem

PATHS = {"data": ("root",), "model": ("path", "lora"), "prompt": ("models",)}
"""The keys of each section that hold a path."""


def require_site_sections(
    method: str, nodes: Mapping[str, Mapping[str, Mapping[str, Any]]], config: BaseModel, document: YamlDocument
) -> None:
    """Checks what nodes say for themselves.

    Args:
        method: its name in cluster.yaml.
        nodes: by node and section, what it replaces.
        config: the method's part of the configuration.
        document: where it comes from.

    Raises:
        ConfigError: a section is none that a node may replace, or is invalid with the node's keys.
    """
    allowed = registry.find(method).site_sections
    faults: list[ConfigProblem] = []
    for name, sections in nodes.items():
        for key, own in sections.items():
            common = getattr(config, key, None)
            if key in allowed and isinstance(common, BaseModel):
                faults += _section_faults(config, key, merged(common, own), document, ("nodes", name))
            else:
                place = document.place(("nodes", name, key))
                hint = f"The method {method} takes no {key} of its own at a node."
                faults.append(ConfigProblem(place.where, line=place.line, key=f"nodes.{name}.{key}", hint=hint))
    if faults:
        raise ConfigError(*faults)


def _section_faults(
    config: BaseModel, key: str, values: dict[str, Any], document: YamlDocument, above: KeyPath
) -> list[ConfigProblem]:
    """The faults of a section alone, which may be a union of models."""
    field = type(config).model_fields[key]
    fields: dict[str, Any] = {key: (field.annotation, field)}
    return validate_model(create_model("SiteSection", **fields), {key: values}, document, above=above)[1]


def with_absolute_paths(document: YamlDocument, folder: Path) -> YamlDocument:
    """The document with every path of a `data` or `model` section absolute: it is relative to the file that says it.

    What an override or a program says is relative to the current folder.
    """
    values = document.values
    for key, path in _paths(values, ()):
        base = folder if document.place(key).line is not None else Path()
        values = _put(values, key, str((base / Path(path).expanduser()).absolute()))
    return replace(document, values=values)


def _paths(values: Mapping[str, Any], above: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every path that is given, with its key: those of the run, of its nodes and of what it measures with."""
    for key, part in values.items():
        if isinstance(part, dict):
            for name in PATHS.get(key, ()):
                if isinstance(path := part.get(name), str) and path:
                    yield (*above, key, name), path
            yield from _paths(part, (*above, key))


def _put(values: dict[str, Any], key: KeyPath, value: Any) -> dict[str, Any]:
    head, *rest = key
    return {**values, head: _put(values[head], tuple(rest), value) if rest else value}
