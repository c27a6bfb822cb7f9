"""The state of a run, by what lies in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launch.errors import ConfigError
from launch.python.run import Run
from launch.report.html import write_report
from launch.run.lock import take_lock
from launch.run.runs import find_run, read_run, runs_in

BEGAN = ("", "began", {"nodes": ["a1", "driver"]})
WORKS = ("a1", "progress", {"phase": "training", "done": 1, "total": 4})


def run_folder(out: Path, *events: Any, name: str = "First run", at: float = 100.0) -> Path:
    folder = out / name.lower().replace(" ", "-")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: {name}\nmethod: regression\n")
    lines = [
        json.dumps({"time": at + number, "node": node, "kind": kind, "data": data})
        for number, (node, kind, data) in enumerate(events)
    ]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    lock = take_lock(folder)
    yield
    os.close(lock)


def over(code: int, reason: str = "") -> Any:
    return ("", "over", {"code": code, "reason": reason})


@pytest.mark.parametrize(
    ("events", "state", "code"),
    [
        ((), "by hand", None),
        ((BEGAN, WORKS), "died", 1),
        ((BEGAN, over(0)), "done", 0),
        ((BEGAN, over(4, "no data")), "failed", 4),
        ((BEGAN, over(143, "interrupted by SIGTERM")), "stopped", 143),
    ],
)
def test_a_run_that_nobody_holds_has_ended_somehow(tmp_path: Path, events: Any, state: str, code: Any) -> None:
    run = read_run(run_folder(tmp_path, *events))
    assert (run.state, run.code, run.goes_on) == (state, code, False)
    assert (run.name, run.method) == ("First run", "regression")


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "starting"),
        ((BEGAN, WORKS), "running"),
        ((BEGAN, ("driver", "ended", {"code": 0})), "serving"),
    ],
)
def test_a_run_that_somebody_holds_goes_on(tmp_path: Path, events: Any, state: str) -> None:
    folder = run_folder(tmp_path, *events)
    with held(folder):
        run = read_run(folder)
        assert (run.state, run.code, run.goes_on) == (state, None, True)


def test_progress_and_times_come_from_the_events(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, BEGAN, WORKS)
    with held(folder):
        run = read_run(folder)
    assert (run.began, run.progress) == (100.0, "a1 training 25% · driver waiting")
    assert read_run(run_folder(tmp_path, BEGAN, over(0), name="b")).ended == 101.0


def test_runs_are_listed_in_the_order_of_their_beginning_and_nothing_else_is(tmp_path: Path) -> None:
    run_folder(tmp_path, BEGAN, over(0), name="late", at=200.0)
    run_folder(tmp_path, BEGAN, over(0), name="early")
    (tmp_path / "notes").mkdir()
    assert [run.name for run in runs_in(tmp_path)] == ["early", "late"]
    assert runs_in(tmp_path / "nowhere") == []


def test_a_broken_configuration_does_not_hide_a_run(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, BEGAN)
    (folder / "config.yaml").write_text("name: [")
    assert read_run(folder).name == "first-run"


def test_a_run_is_found_by_its_name_or_its_folder(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, BEGAN)
    assert find_run("First run", tmp_path) == find_run("first-run", tmp_path) == folder
    with pytest.raises(ConfigError, match=r"a run in .* \(first-run\), got 'first-runs'\. Did you mean first-run"):
        find_run("first-runs", tmp_path)
    with pytest.raises(ConfigError, match="a run, of which there is none"):
        find_run("x", tmp_path / "nowhere")


MERGES = ", ".join(["*b{0}"] * 9)
LEVELS = (f"b{level}: &b{level} {{<<: [{MERGES.format(level - 1)}]}}\n" for level in range(1, 20))
BOMB = "b0: &b0 {x: 1}\n" + "".join(LEVELS)
"""Merges nine to a level: 9 ** 19 pairs."""


def test_a_folder_of_somebody_else_cannot_keep_its_reader_busy(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, BEGAN)
    (folder / "config.yaml").write_text(BOMB)
    assert [run.name for run in runs_in(tmp_path)] == ["first-run"]
    for reader in (lambda: Run(folder).config, lambda: write_report(folder)):
        with pytest.raises(ConfigError, match="more than 100000 values"):
            reader()
