"""Compares the results of two runs: every number of metrics.json, every tensor and every pixel of their samples.

    python tests/experiments/compare_runs.py runs-before/regression runs-after/regression

Times and the leaders of rounds differ between any two runs and are left out; everything else must be equal, bit for
bit. Ends with 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

VARYING = {"seconds", "leader", "bytes"}


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value by their path, without what varies."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in VARYING:
                yield from numbers(part, f"{path}/{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from numbers(part, f"{path}/{index}")
    else:
        yield path, value


def differences(before: Path, after: Path) -> Iterator[str]:
    """One line for everything that differs."""
    old, new = (dict(numbers(json.loads((run / "metrics.json").read_text()))) for run in (before, after))
    for path in sorted(old.keys() | new.keys()):
        if path not in old or path not in new:
            yield f"metrics.json{path}: only in {before if path in old else after}"
        elif old[path] != new[path] and not (old[path] != old[path] and new[path] != new[path]):
            yield f"metrics.json{path}: {old[path]} and {new[path]}"
    for file in sorted((before / "samples").rglob("*")):
        other = after / file.relative_to(before)
        if file.is_file() and not other.is_file():
            yield f"{file.relative_to(before)}: only in {before}"
        elif file.suffix == ".png" and not np.array_equal(imread(file), imread(other)):
            yield f"{file.relative_to(before)}: other pixels"
        elif file.suffix == ".safetensors":
            here, there = load_file(file), load_file(other)
            yield from (
                f"{file.relative_to(before)}: {name} differs"
                for name in sorted(here.keys() | there.keys())
                if name not in here or name not in there or not torch.equal(here[name], there[name])
            )


def main() -> int:
    """Prints what differs; the exit code says whether anything does."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    found = list(differences(arguments.before, arguments.after))
    count = len(dict(numbers(json.loads((arguments.before / "metrics.json").read_text()))))
    sys.stdout.write("\n".join([*found, f"{count} numbers compared, {len(found)} differences"]) + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
