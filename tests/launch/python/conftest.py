"""A cluster whose sites are training loops, on threads of the test's process or as scripts of their own."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fednet

HERE = Path(__file__).parent
NAMES = ("a1", "a2", "a3")
PATIENCE = 100.0


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("training")


@pytest.fixture
def cluster(training: ModuleType) -> Iterator[dict[str, Any]]:
    """A configuration of three sites with sockets in a short folder."""
    with tempfile.TemporaryDirectory(prefix="j-", dir="/tmp") as folder:
        yield {
            "name": "joined",
            "method": training.METHOD,
            "nodes": {name: {"listen": f"ipc://{folder}/{name}"} for name in NAMES},
            "rounds": 4,
            "linger": PATIENCE,
        }


@pytest.fixture
def train_together(training: ModuleType, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the loops of sites on threads; returns what each ends with, by name."""

    def loop(config: dict[str, Any], name: str, module: Any) -> Any:
        with fednet.join(config, name=name, out=tmp_path / name) as run:
            for r in run.rounds(module):
                r.done(weight=len(training.points(name)[0]), loss=training.train(module, name))
        return module, run.results()

    def together(config: dict[str, Any], names: tuple[str, ...] = NAMES) -> dict[str, Any]:
        modules = {name: training.model(index) for index, name in enumerate(names)}
        with ThreadPoolExecutor(len(names)) as threads:
            ended = {name: threads.submit(loop, config, name, modules[name]) for name in names}
            return {name: future.result(PATIENCE) for name, future in ended.items()}

    return together
