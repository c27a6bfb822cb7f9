"""A YAML document that remembers where everything stood, so that an error can name file, line and key.

Knows YAML and dotted keys; knows nothing of what the keys mean. Duplicate keys are refused (YAML 1.2, section
3.2.1.3: keys of a mapping are unique; PyYAML keeps the last one silently), anchors and merges work as usual: an own key
stands before a merged one. Depth and size, aliases followed, are bounded before anything is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import yaml

from launch.errors import ConfigError, ConfigProblem

KeyPath = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """The safe loader, with numbers such as 1e-3 read as YAML 1.2 reads them (PyYAML: as text), and keys as written."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping with keys as they are written: a site may be called `no`, which PyYAML reads as false, or `010`."""
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag == self._implied(key.value):
                    key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)

    def _implied(self, text: str) -> str:
        """The tag of a text that names none."""
        return str(self.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; PyYAML raises whatever it likes where a text is not of its tag (`!!timestamp x`)."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:
            why = f": {error}" if isinstance(error, ValueError) else ""
            problem = f"no value of the tag {node.tag!r}{why}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


MAX_DEPTH = 100
"""Collections within each other."""

MAX_NODES = 100_000
"""Values of a document, those of an alias counted wherever it stands."""

MAX_SHOWN = 200
"""Characters of an override in messages."""

_UNREADABLE = (yaml.YAMLError, ValueError, OverflowError)
"""What PyYAML raises where a text is no YAML: the others where an escape is no character, or a version no number."""

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class DocumentPosition:
    """Where a value came from: a line of the file, or an override of the command line."""

    where: str
    line: int | None


@dataclass(frozen=True)
class YamlDocument:
    """Plain values, and the place of each by its dotted key.

    Attributes:
        source: the file as the operator named it.
        values: what stands in it, overrides applied.
        places: place by path; list items by their number.
    """

    source: str
    values: dict[str, Any]
    places: Mapping[KeyPath, DocumentPosition]

    def place(self, key: KeyPath) -> DocumentPosition:
        """The place of a key, or of the closest enclosing one that has a place."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, DocumentPosition(self.source, None))

    def problem(self, key: KeyPath, expected: str, given: str = "", hint: str = "") -> ConfigProblem:
        """What is wrong with a key, where it stands."""
        place = self.place(key)
        return ConfigProblem(place.where, expected, given, place.line, ".".join(key), hint)


def parse(text: str, source: str, overrides: Sequence[str] = ()) -> YamlDocument:
    """Reads a document and applies overrides such as `train.epochs=10` or `arms.0.rule=mean` in order.

    Raises:
        ConfigError: the text is not YAML, is not a mapping, repeats a key, or an override does not fit it.
    """
    try:
        _require_bounded(text)
        loader = _Loader(text)
        root = loader.get_single_node()
        twice = [] if root is None else list(_duplicate_key(root, source))
        values = None if root is None else loader.construct_document(root)
    except _UNREADABLE as error:
        raise ConfigError(_syntax_error(error, source)) from error
    if twice:
        raise ConfigError(*twice)
    if root is None or not isinstance(values, dict):
        given = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(ConfigProblem(source, "a mapping of keys to values", given, line=1))
    marks = list(_marks(root))
    document = YamlDocument(source, values, {key: DocumentPosition(source, line) for key, line in marks})
    return reduce(apply_override, overrides, document)


def from_values(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> YamlDocument:
    """The document of plain values that a program gives, with the same overrides.

    Raises:
        ConfigError: an override does not fit.
    """
    return reduce(apply_override, overrides, YamlDocument("configuration", dict(values), {}))


def as_overrides(values: Mapping[str, Any], above: str = "") -> list[str]:
    """Overrides as the command line writes them: `{"train": {"epochs": 10}}` is `train.epochs=10`.

    A mapping is merged key by key into what is there; an empty one replaces it.
    """
    written: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            written += as_overrides(value, f"{above}{key}.")
        else:
            written.append(f"{above}{key}={json.dumps(value, default=str)}")
    return written


def _require_bounded(text: str) -> None:
    """Refuses what could not be built: too deep, too large with its aliases followed, or a node that contains itself.

    Raises:
        YAMLError: it is that, or no YAML.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and the number of values within so far
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            size = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            sizes |= {anchor: size} if anchor else {}
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise _refused(f"the node &{event.anchor} contains itself", event)
            size = sizes.get(event.anchor or "", 1)
        else:
            size = isinstance(event, yaml.ScalarEvent)
        anchor, within = open_nodes[-1]
        open_nodes[-1] = anchor, within + size
        if len(open_nodes) > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} collections within each other", event)
        if within + size > MAX_NODES:
            raise _refused(f"more than {MAX_NODES} values, aliases followed", event)


def _refused(problem: str, event: yaml.Event) -> yaml.YAMLError:
    mark = event.start_mark if isinstance(event.start_mark, yaml.Mark) else None
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _syntax_error(error: Exception, source: str) -> ConfigProblem:
    mark = getattr(error, "problem_mark", None)
    detail = getattr(error, "problem", None) or str(error)
    return ConfigProblem(source, "well-formed YAML", detail, line=mark.line + 1 if mark else None)


def _marks(node: yaml.Node, key: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Every key of a tree with its line; a mapping's entry is marked where its key stands."""
    if not key:
        yield key, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            path = (*key, str(name.value))
            yield path, name.start_mark.line + 1
            yield from _marks(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            path = (*key, str(number))
            yield path, value.start_mark.line + 1
            yield from _marks(value, path)


def _duplicate_key(node: yaml.Node, source: str, key: KeyPath = ()) -> Iterator[ConfigProblem]:
    """The keys that a mapping repeats."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name, value in node.value:
            path, line = (*key, str(name.value)), name.start_mark.line + 1
            if path[-1] in seen:
                expected = f"each key once (it stands in line {seen[path[-1]]} already)"
                yield ConfigProblem(source, expected, "", line, ".".join(path))
            seen.setdefault(path[-1], line)
            yield from _duplicate_key(value, source, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _duplicate_key(value, source, (*key, str(number)))


def apply_override(document: YamlDocument, text: str) -> YamlDocument:
    """The document with one override, such as `train.epochs=10`, applied.

    Raises:
        ConfigError: it is no `key=value`, its value is not YAML, or it does not fit the document.
    """
    where = f"--set {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '...'}"
    dotted, equals, written = text.partition("=")
    key = tuple(dotted.strip().split("."))
    if not equals or not all(key):
        raise ConfigError(ConfigProblem(where, "key=value, for example --set train.epochs=10", repr(text)))
    try:
        _require_bounded(written)
        value = _Loader(written).get_single_data()
    except _UNREADABLE as error:
        raise ConfigError(ConfigProblem(where, "a YAML value after the =", str(error), key=dotted)) from error
    values = _replaced(document.values, key, value, where, dotted)
    kept = {path: place for path, place in document.places.items() if path[: len(key)] != key}
    above = [key[:length] for length in range(1, len(key)) if key[:length] not in kept]  # what the override has made
    made = dict.fromkeys([*above, key], DocumentPosition(where, None))
    return YamlDocument(document.source, values, {**kept, **made})


def _replaced(tree: Any, key: KeyPath, value: Any, where: str, dotted: str) -> Any:
    """The tree with one value replaced; mappings on the way are made where there are none."""
    head, *rest = key
    if isinstance(tree, list):
        if not head.isdigit() or int(head) >= len(tree):
            raise ConfigError(
                ConfigProblem(where, f"a number from 0 to {len(tree) - 1} in this list", head, key=dotted)
            )
        number = int(head)
        inner = _replaced(tree[number], tuple(rest), value, where, dotted) if rest else value
        return [*tree[:number], inner, *tree[number + 1 :]]
    base = tree if isinstance(tree, dict) else {}
    inner = _replaced(base.get(head), tuple(rest), value, where, dotted) if rest else value
    return {**base, head: inner}
