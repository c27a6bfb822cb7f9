"""A relaunch under an old name after a site's pictures were replaced: its results are those of a run elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

COMMON: dict[str, Any] = {
    "devices": {"threads": 1},
    "data": {"name": "folder", "root": "a", "size": 8, "channels": 1},
    "nodes": {site: {"data": {"root": site}} for site in ("a", "b")},
    "measure": None,
}
METHODS: dict[str, dict[str, Any]] = {
    "fedbagan": {
        "model": {"latent": 2, "width": 4},
        "autoencoder": {"rounds": 1, "steps": 1, "batch": 4},
        "gan": {"rounds": 1, "steps": 1, "batch": 4, "first": 0},
        "baseline": False,
        "report": {"every": 1, "per_class": 34},
    },
    "private-gan": {
        "model": {"latent": 2, "width": 4},
        "train": {"steps": 1, "rate": 0.5},
        "rounds": 1,
        "privacy": {"level": "none"},  # the losses are told, and the same data give the same ones
        "report": {"samples": 40},
    },
}


def paint(folder: Path, seed: int) -> None:
    """Two classes of noisy pictures."""
    random = np.random.default_rng(seed)
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(8):
            Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / name / f"{index}.png")


def steady(value: Any) -> Any:
    """A result without what differs between two runs of the same: seconds, and who led."""
    if isinstance(value, dict):
        return {key: steady(each) for key, each in value.items() if key not in {"seconds", "leader"}}
    return [steady(each) for each in value] if isinstance(value, list) else value


def launch(terminal: Any, method: str, out: str) -> tuple[str, Any]:
    """What a run says, and its numbers."""
    command = terminal.run("launch", f"{method}.yaml", "--out", out)
    assert command.code == 0, command.out + command.err
    return command.out, steady(json.loads((terminal.folder / out / method / "metrics.json").read_text()))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_the_earlier_run_is_reported_again(terminal: Any, method: str) -> None:
    for seed, site in enumerate(("a", "b")):
        paint(terminal.folder / site, seed)
    values = {**COMMON, **METHODS[method], "name": method, "method": method}
    (terminal.folder / f"{method}.yaml").write_text(yaml.safe_dump(values), "utf-8")
    _, before = launch(terminal, method, "old")
    paint(terminal.folder / "a", 9)
    said, after = launch(terminal, method, "old")
    assert f"{method}: replaces the results of an earlier run, which had other data" in said
    _, anew = launch(terminal, method, "new")
    assert before != after
    assert after == anew
