"""The built-in examples: the yaml files beside this module, by name.

An example says what it shows in its first comment. Knows files, not what stands in them.
"""

from __future__ import annotations

import re
from importlib import resources
from itertools import takewhile

from launch.errors import ConfigError, ConfigProblem, did_you_mean


def example_texts() -> dict[str, str]:
    """Every example's text by name, in alphabetical order."""
    folder = resources.files("launch") / "examples"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return dict(sorted((entry.name.removesuffix(".yaml"), entry.read_text("utf-8")) for entry in files))


def example_text(name: str) -> str:
    """One example's text.

    Raises:
        ConfigError: there is none of this name.
    """
    known = example_texts()
    if name not in known:
        expected = f"a file, or a built-in example ({', '.join(known)})"
        raise ConfigError(ConfigProblem(name, expected, hint=did_you_mean(name, known)))
    return known[name]


def example_summaries() -> dict[str, str]:
    """What every example shows, by name: the first sentence of its comment."""
    return {name: _first_sentence(text) for name, text in example_texts().items()}


def _first_sentence(text: str) -> str:
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    match = re.match(r".+?[.?!](?=\s|$)", comment)
    return match[0] if match else comment
