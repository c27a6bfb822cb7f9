"""The commands about runs, on folders that runs have left; runs that go on are tested from end to end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.commands.app import app
from launch.errors import ConfigError, RunError
from launch.run.lock import LockHolder, lock_holder, take_lock


@pytest.fixture
def out(tmp_path: Path) -> Path:
    leave(tmp_path, "done", 0)
    leave(tmp_path, "failed", 4, "no data at /nowhere\nmore")
    return tmp_path


@pytest.fixture
def running(out: Path) -> Iterator[Path]:
    folder = leave(out, "running", None)
    held = take_lock(folder)
    yield folder
    os.close(held)


def leave(out: Path, name: str, code: Any, reason: str = "") -> Path:
    folder = out / name
    (folder / "logs").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: {name}\nmethod: regression\n")
    (folder / "logs" / "a1.log").write_text("2026-01-01 10:00:00,000 hello\n")
    events: list[Any] = [
        ("began", {"nodes": ["a1"]}),
        *([("over", {"code": code, "reason": reason})] * (code is not None)),
    ]
    lines = [json.dumps({"time": 9.0, "node": "", "kind": kind, "data": data}) for kind, data in events]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def say(*arguments: str | Path) -> str:
    given = [*map(str, arguments)]
    result = CliRunner().invoke(app, given, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_ls_says_how_runs_have_ended(out: Path) -> None:
    rows = [line.split() for line in say("ls", "--out", out).splitlines()[1:]]
    assert [(row[0], row[2]) for row in rows] == [("done", "done"), ("failed", "failed")]
    assert rows[1][3] == "(4)"
    assert " ".join(rows[1][-4:]) == "no data at /nowhere"


def test_ls_for_programs(out: Path, running: Path) -> None:
    runs = {run["name"]: run for run in json.loads(say("ls", "--out", out, "--json"))}
    assert {name: run["state"] for name, run in runs.items()} == {
        "done": "done", "failed": "failed", "running": "running",
    }  # fmt: skip
    assert runs["failed"]["code"] == 4
    assert runs["done"]["began"] == "1970-01-01T00:00:09.000+00:00"
    assert runs["running"]["holder"]["pid"] == os.getpid()
    assert runs["running"]["folder"] == str(running)


def test_wait_ends_with_the_run_s_code(out: Path) -> None:
    assert say("wait", "done", "--out", out) == "done: done\n"
    with pytest.raises(RunError, match="failed failed: no data at /nowhere") as caught:
        say("wait", "failed", "--out", out)
    assert caught.value.code == 4


def test_a_run_that_died_has_the_code_of_a_kill(out: Path) -> None:
    leave(out, "gone", None)
    with pytest.raises(RunError, match="has ended without a word") as caught:
        say("wait", "gone", "--out", out)
    assert caught.value.code == 1


def test_stop_leaves_alone_what_is_over(out: Path) -> None:
    assert say("stop", "done", "--out", out) == "done is not running: done\n"


@pytest.mark.parametrize(
    ("holder", "hint"),
    [
        (LockHolder(1, "elsewhere", handles_signals=True), "process 1 on elsewhere. Stop it there"),
        (replace(LockHolder.here(), handles_signals=False), "The program that has launched it stops it"),
    ],
)
def test_stop_ends_no_process_of_another_machine_and_no_program(
    out: Path, running: Path, monkeypatch: pytest.MonkeyPatch, holder: LockHolder, hint: str
) -> None:
    monkeypatch.setattr("launch.run.runs.lock_holder", lambda _folder: holder)
    with pytest.raises(ConfigError, match=hint):
        say("stop", "running", "--out", out)
    assert lock_holder(running) is not None


def test_logs_of_all_and_of_one(out: Path) -> None:
    assert say("logs", "done", "--out", out) == "a1 | 2026-01-01 10:00:00,000 hello\n"
    assert say("logs", "done", "a1", "-f", "--out", out) == "2026-01-01 10:00:00,000 hello\n"
    with pytest.raises(ConfigError, match=r"a node that has a log \(a1\), got 'a2'"):
        say("logs", "done", "a2", "--out", out)


def test_what_a_log_or_a_folder_holds_moves_no_cursor(out: Path) -> None:
    (out / "done" / "logs" / "a1.log").write_text("  \x1b[2J[red]one\n")
    assert say("logs", "done", "a1", "--out", out) == "  \ufffd[2J[red]one\n"
    leave(out, "bad", 1, "\x1b[2J[bold]why")
    assert "\ufffd[2J[bold]why" in say("ls", "--out", out)


def test_attach_to_a_run_that_is_over_shows_it(out: Path) -> None:
    assert "a1 waiting" in say("attach", "done", "--out", out)


@pytest.mark.parametrize("command", ["logs", "attach", "wait", "stop"])
def test_a_run_that_does_not_exist_is_named(out: Path, command: str) -> None:
    with pytest.raises(ConfigError, match=r"a run in .* \(done, failed\), got 'don'\. Did you mean done"):
        say(command, "don", "--out", out)
