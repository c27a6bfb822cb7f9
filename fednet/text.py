"""Text that others have written, cleaned where it enters: names of files, metadata, foreign errors, JSON of sites.

The same as `protocol.text`, which is for messages; protocol and fednet do not import each other, and a test compares
the two. Pure.
"""

from __future__ import annotations

from typing import Any

JOINERS = "\u200c\u200d"
"""Characters of width zero that scripts and emoji need."""
REPLACEMENT = "\ufffd"
MAX_DEPTH = 32
"""Of lists and objects in JSON."""


def plain_text(text: str) -> str:
    """The text in one line: runs of white space, newlines too, are one space each; all else unseen is replaced.

    Unseen are control characters, marks of direction, separators of lines and surrogates: Unicode's general categories
    C and Z, as `str.isprintable`.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in JOINERS else REPLACEMENT for one in " ".join(text.split()))


def plain_lines(text: str) -> str:
    """The same, line by line, with the spaces at their beginnings."""
    lines = text.split("\n")
    return "\n".join(line[: len(line) - len(line.lstrip(" "))] + plain_text(line.lstrip(" ")) for line in lines)


def plain_json(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A JSON value with all of its texts cleaned, the keys of objects too.

    Raises:
        ValueError: it is nested too deeply, or two keys of an object become one.
    """
    if isinstance(value, str):
        return plain_text(value)
    if not isinstance(value, list | dict):
        return value
    if depth == 0:
        raise ValueError(f"expected JSON of at most {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [plain_json(one, depth - 1) for one in value]
    cleaned = {plain_text(key): plain_json(one, depth - 1) for key, one in value.items()}
    if len(cleaned) != len(value):
        raise ValueError("expected keys that differ in what can be seen")
    return cleaned
