"""Pydantic's errors as problems of an operator: file, line, key, what was expected, what was given.

Knows pydantic's errors and the places of a document; not what any key means. Pydantic names a path through its
own types (with a union's members as extra steps), the operator knows only the keys he wrote: the path is followed
through the document's values as far as they go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from launch.config.document import KeyPath, YamlDocument
from launch.errors import ConfigProblem, did_you_mean

ModelT = TypeVar("ModelT", bound=BaseModel)

_MAX_VALUE_CHARACTERS = 60
_STRUCTURES = {
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
}
_PATTERNS = {
    r"^[a-z0-9][a-z0-9_-]{0,31}$": "a name of 1 to 32 of the characters a-z 0-9 _ -, the first a letter or a digit",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "a module and what it defines, such as my_module:make",
    r"^(tcp://.+:\d+|ipc://.+)$": "an address, tcp://HOST:PORT or ipc://PATH",
    r"^[0-9a-f]{4}(-[0-9a-f]{4}){7}$": "what `fednet keys fingerprint` prints",
}
"""What the operator is told in place of a regular expression."""


def validate_model(
    schema: type[ModelT],
    values: Mapping[str, Any],
    document: YamlDocument,
    *,
    beside: Sequence[str] = (),
    above: KeyPath = (),
) -> tuple[ModelT | None, list[ConfigProblem]]:
    """Values as a model, or the faults in them; strict as JSON is, so "3" is no number and true no 1.

    Args:
        schema: the model.
        values: plain values by key.
        document: the document that they come from.
        beside: keys that are known at the top although the model does not have them.
        above: the path of `values` within the document.
    """
    text = json.dumps(values, default=str)
    try:
        return schema.model_validate_json(text, strict=True), []
    except ValidationError as error:
        return None, validation_problems(error, schema, json.loads(text), document, beside=beside, above=above)


def validation_problems(
    error: ValidationError,
    schema: type[BaseModel],
    values: Mapping[str, Any],
    document: YamlDocument,
    *,
    beside: Sequence[str] = (),
    above: KeyPath = (),
) -> list[ConfigProblem]:
    """Every fault of a validation, one for each key.

    Args:
        error: what pydantic raised.
        schema: the model that was asked for.
        values: what was validated, with text as keys.
        document: where the values came from.
        beside: keys that are known at the top although the model does not have them.
        above: the path of `values` within the document.
    """
    by_key: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_context=True):
        by_key.setdefault(_walked(detail, values), []).append(detail)

    def known(key: KeyPath) -> list[str]:
        return [*_known(schema, key[:-1]), *(beside if len(key) == 1 else ())]

    reported = [key for key in by_key if not any(_superseded(key, by_key[key], other) for other in by_key)]
    return [_problem(key, by_key[key], known(key), document, above) for key in reported]


def _walked(detail: ErrorDetails, values: Any) -> KeyPath:
    """The operator's keys of a path, without the steps that name a member of a union."""
    key: KeyPath = ()
    for step in detail["loc"]:
        if _has(values, step):
            key, values = (*key, str(step)), values[step]
        elif detail["type"] == "missing" and step == detail["loc"][-1]:
            key = (*key, str(step))
    return key


def _has(values: Any, step: str | int) -> bool:
    if isinstance(values, list):
        return isinstance(step, int) and step < len(values)
    return isinstance(values, Mapping) and step in values


def _below(kind: Any, step: str) -> Iterator[Any]:
    """The types that a key or a number leads to from a type; nothing where it leads nowhere."""
    for plain in _members(kind):
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            if step in plain.model_fields:
                yield plain.model_fields[step].annotation
        elif (origin := get_origin(plain)) is dict:
            yield get_args(plain)[1]
        elif origin in {list, tuple, frozenset, set} and step.isdigit():
            yield from (inner for inner in get_args(plain) if inner is not Ellipsis)


def _members(kind: Any) -> Iterator[Any]:
    """A type without its annotations, a union as its members."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in {Union, UnionType}:
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _superseded(key: KeyPath, details: list[ErrorDetails], other: KeyPath) -> bool:
    """Whether an error is only that of a union's other member, while the intended one says more below."""
    of_union = all(len(detail["loc"]) > len(key) and detail["loc"][-1] != "[key]" for detail in details)
    return of_union and len(other) > len(key) and other[: len(key)] == key


def _problem(
    key: KeyPath,
    details: list[ErrorDetails],
    known: Sequence[str],
    document: YamlDocument,
    above: KeyPath,
) -> ConfigProblem:
    place = document.place(above + key)
    dotted = ".".join(above + key)
    first = details[0]
    if first["type"] == "extra_forbidden":
        expected = "one of the keys " + ", ".join(known)
        hint = did_you_mean(key[-1], known)
        return ConfigProblem(place.where, expected, f"the unknown key '{key[-1]}'", place.line, dotted, hint)
    if first["type"] == "missing":
        given = [other for other in _keys_at(document, above + key[:-1]) if other not in known]
        close = get_close_matches(key[-1], given, n=1)
        hint = f"The key '{close[0]}' is unknown: did you mean {key[-1]}?" if close else ""
        return ConfigProblem(place.where, "this key", "nothing", place.line, dotted, hint)
    if first["type"] in {"value_error", "assertion_error"}:
        message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return ConfigProblem(
            place.where, line=place.line, key=dotted, hint=message[:1].upper() + message[1:].rstrip(".") + "."
        )
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    options = [option.strip("' ") for detail in details for option in _options(detail)]
    given = first["input"]
    tag = str(first.get("ctx", {}).get("discriminator", "")).strip("'")
    if isinstance(given, Mapping) and tag in given:
        given, dotted, place = given[tag], f"{dotted}.{tag}", document.place((*above, *key, tag))
    return ConfigProblem(place.where, expected, _shown(given), place.line, dotted, _hint(first["type"], given, options))


def _hint(kind: str, given: object, options: Sequence[str]) -> str:
    if kind == "string_type" and isinstance(given, bool | int | float):
        return "YAML reads it as something other than text: put it in quotes."
    if given is None and _STRUCTURES.get(kind, "").startswith("a mapping"):
        return "Write {} where there is nothing to say."
    return did_you_mean(given, options) if isinstance(given, str) else ""


def _keys_at(document: YamlDocument, key: KeyPath) -> list[str]:
    values: Any = document.values
    for step in key:
        values = values.get(step) if isinstance(values, Mapping) else None
    return list(values) if isinstance(values, Mapping) else []


def _known(schema: type[BaseModel], key: KeyPath) -> list[str]:
    """The keys that are known at a path of a model."""
    reached: list[Any] = [schema]
    for step in key:
        reached = [found for kind in reached for found in _below(kind, step)]
    models = [plain for kind in reached for plain in _members(kind) if isinstance(plain, type)]
    return list(dict.fromkeys(name for model in models if issubclass(model, BaseModel) for name in model.model_fields))


def _options(detail: ErrorDetails) -> list[str]:
    """The words among which a value is chosen, if it is."""
    context: Mapping[str, Any] = detail.get("ctx", {})
    return str(context.get("expected") or context.get("expected_tags") or "").replace(" or ", ", ").split(", ")


def _expected(detail: ErrorDetails) -> str:
    """The end of "expected ..." for one of pydantic's errors."""
    context: Mapping[str, Any] = detail.get("ctx", {})
    if "expected_tags" in context:
        return f"one of {context['expected_tags']}"
    if detail["type"] == "union_tag_not_found":
        return f"a mapping with the key {context['discriminator']}"
    if detail["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}")
    if detail["type"] in _STRUCTURES:
        return _STRUCTURES[detail["type"]]
    return detail["msg"].removeprefix("Input should be ")


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else text[: _MAX_VALUE_CHARACTERS - 3] + "..."
