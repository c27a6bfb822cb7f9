"""JSON of numbers that may not be finite: they are the strings "NaN", "Infinity" and "-Infinity".

JSON has no numbers for them, and null would hide that something diverged. pydantic reads the strings as floats where a
float is expected (its `ser_json_inf_nan="strings"` writes the same ones). Imports nothing of fednet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

NON_FINITE = ("NaN", "Infinity", "-Infinity")


def to_json(value: object, *, indent: int | None = None) -> str:
    """A value of mappings, sequences and plain values as JSON.

    Raises:
        TypeError: a part of it is of another type.
    """
    return json.dumps(finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def number_text(value: float) -> str:
    """A number with four significant digits; what is not finite, as in JSON."""
    if math.isnan(value):
        return NON_FINITE[0]
    if math.isinf(value):
        return NON_FINITE[1] if value > 0 else NON_FINITE[2]
    return f"{value:.4g}"


def finite(value: Any) -> Any:
    """The same value with strings in place of the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return number_text(value)
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value
