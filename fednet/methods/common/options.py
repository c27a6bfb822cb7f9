"""Reads names, numbers and choices that come from other nodes; what does not fit is a MethodError that says what would.

Knows no method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from fednet.api import Scalar
from fednet.errors import MethodError

ChoiceT = TypeVar("ChoiceT", bound=str)

LARGEST = 1_000_000
"""Of a whole number, unless a smaller limit is given."""
SHOWN = 40
"""Characters of a value in a message."""


def require_known(name: str, known: Iterable[str], kind: str, site: str) -> None:
    """Checks that a question, task or model exists.

    Args:
        name: from another node.
        known: what there is.
        kind: what it names, for the message: "question", "task", "model".
        site: who was asked.

    Raises:
        MethodError: it does not exist.
    """
    expected = tuple(known)
    if name not in expected:
        raise MethodError(f"{site}: unknown {kind} {shown(name)}; expected one of {', '.join(expected)}")


def choice(options: Mapping[str, Scalar], name: str, allowed: Iterable[ChoiceT], default: Scalar = None) -> ChoiceT:
    """An option that is one of some texts.

    Raises:
        MethodError: it is none of them, or missing where there is no default.
    """
    value, expected = options.get(name, default), tuple(allowed)
    for text in expected:
        if value == text:
            return text
    raise MethodError(f"option {name} must be one of {', '.join(expected)}, got {shown(value)}")


def whole_number(
    options: Mapping[str, Scalar], name: str, default: int | None, least: int = 1, most: int = LARGEST
) -> int | None:
    """An option that is a whole number in [least, most]; the default where it is missing or None.

    Raises:
        MethodError: it is anything else.
    """
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise MethodError(f"option {name} must be a whole number from {least} to {most}, got {shown(value)}")
    return value


def required_whole_number(options: Mapping[str, Scalar], name: str, least: int = 1, most: int = LARGEST) -> int:
    """As `whole_number`, for an option that must be there.

    Raises:
        MethodError: it is missing or anything else.
    """
    value = whole_number(options, name, None, least, most)
    if value is None:
        raise MethodError(f"option {name} must be a whole number from {least} to {most}, got nothing")
    return value


def number(options: Mapping[str, Scalar], name: str, default: float | None = None) -> float | None:
    """An option that is a finite number of at least 0; the default where it is missing or None.

    Raises:
        MethodError: it is anything else.
    """
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise MethodError(f"option {name} must be a number of at least 0, got {shown(value)}")
    return float(value)


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN + 2 else f"{text[: SHOWN + 1]}..."
