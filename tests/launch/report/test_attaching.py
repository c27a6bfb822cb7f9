"""A run that is shown from its folder, until nobody runs it any more."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.report import attaching
from launch.report.attaching import attach_to
from launch.run.lock import lock_holder, take_lock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("name: x\nmethod: regression\n")
    add(tmp_path, "", "began", nodes=["a1", "driver"])
    return tmp_path


@pytest.fixture
def console() -> Console:
    return Console(record=True, file=io.StringIO(), width=100)


def add(folder: Path, node: str, kind: str, at: float = 1.0, **data: Any) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": at, "node": node, "kind": kind, "data": data}) + "\n")


def test_a_run_that_is_over_is_shown_once(folder: Path, console: Console) -> None:
    add(folder, "a1", "died", cause="was killed by SIGKILL", message="")
    assert attach_to(folder, console)
    assert "a1 died" in console.export_text(clear=False)
    assert "! a1 was killed by SIGKILL" in console.export_text()


def test_a_run_that_is_over_took_as_long_as_it_did(folder: Path, console: Console) -> None:
    add(folder, "", "over", 65.0, code=0)
    assert attach_to(folder, console)
    assert console.export_text().startswith("[1:04]")


def test_what_comes_meanwhile_is_shown_until_the_lock_is_released(
    folder: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = take_lock(folder)
    looked = []

    def look(where: Path) -> Any:
        looked.append(where)
        if len(looked) == 2:
            add(folder, "a1", "ready")
        if len(looked) == 3:
            os.close(lock)
        return lock_holder(where)

    monkeypatch.setattr(attaching, "lock_holder", look)
    assert attach_to(folder, console)
    assert "a1 ready" in console.export_text()


def test_ctrl_c_detaches(folder: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = take_lock(folder)

    def look(where: Path) -> Any:
        signal.raise_signal(signal.SIGINT)
        return lock_holder(where)

    monkeypatch.setattr(attaching, "lock_holder", look)
    assert threading.current_thread() is threading.main_thread()
    assert not attach_to(folder, console)
    os.close(lock)
