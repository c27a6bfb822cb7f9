"""Runs in the background, as they are typed: detached, listed, followed, attached to, waited for, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.run.lock import lock_holder
from launch.run.runs import read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MANY = ("--set", "nodes=2", "--set", "rounds=1000", "--set", "steps=1", "--set", "devices.threads=1")


@pytest.fixture
def detached(terminal: Any, tmp_path: Path) -> Iterator[Any]:
    """A run that goes on in the background for longer than any test: its terminal, and its folder."""
    command = terminal.start("launch", "regression", "--detach", "--out", tmp_path, *MANY)
    assert command.ends() == 0, command.err
    assert f"`fednet attach regression --out {tmp_path}` shows it" in command.out
    command.run = tmp_path / "regression"
    yield command
    holder = lock_holder(command.run)
    if holder and holder.process:
        holder.process.kill()


def in_rounds(detached: Any) -> bool:
    return any(event.data["phase"] == "rounds" for event in detached.happened("progress", "driver"))


def test_a_run_goes_on_after_its_terminal_and_is_stopped_in_order(detached: Any, terminal: Any, tmp_path: Path) -> None:
    holder = lock_holder(detached.run)
    assert holder is not None
    assert os.getsid(holder.pid) == holder.pid  # what ends the terminal's session does not reach it
    follow = terminal.start("logs", "regression", "driver", "-f", "--out", tmp_path)
    follow.until(lambda: in_rounds(detached), "the driver holds rounds")
    attached = terminal.start("attach", "regression", "--out", tmp_path)
    attached.says(r"driver (rounds|line rounds) \d+")
    assert attached.interrupt() == 0
    (run,) = json.loads(terminal.call("ls", "--json", "--out", tmp_path).out)
    assert (run["state"], run["holder"]["pid"]) == ("running", holder.pid)
    assert "rounds" in run["progress"]
    second = terminal.run("launch", "regression", "--detach", "--out", tmp_path)
    assert (second.code, f"process {holder.pid}" in second.err) == (2, True), second.err

    waiting = terminal.start("wait", "regression", "--out", tmp_path)
    stopped = terminal.call("stop", "regression", "--out", tmp_path)
    assert (stopped.code, stopped.out) == (0, "regression: stopped\n"), stopped.err
    assert waiting.ends() == 143
    assert follow.ends() == 0
    detached.leaves_nobody()
    assert {event.kind for event in detached.happened("stopped")} == {"stopped"}
    assert (detached.run / "report.html").is_file()


def test_a_launcher_that_is_killed_takes_its_nodes_along_and_its_run_has_died(
    detached: Any, terminal: Any, tmp_path: Path
) -> None:
    waiting = terminal.start("wait", "regression", "--out", tmp_path)
    waiting.until(lambda: in_rounds(detached), "the driver holds rounds")
    holder = lock_holder(detached.run)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert waiting.ends() == 1
    detached.leaves_nobody()
    assert read_run(detached.run).state == "died"
    assert "died (1)" in terminal.call("ls", "--out", tmp_path).out
    assert terminal.call("stop", "regression", "--out", tmp_path).out == "regression is not running: died\n"


def test_what_cannot_be_started_is_said_on_the_terminal_with_its_code(terminal: Any, tmp_path: Path) -> None:
    refused = terminal.run("launch", "regression", "--detach", "--out", tmp_path, "--set", "rounds=none")
    assert (refused.code, "rounds" in refused.err) == (2, True)
    assert not list(tmp_path.iterdir())
    taken = terminal.run("launch", "regression", "--detach", "--out", tmp_path, "--set", "devices.device=cuda:99")
    assert (taken.code, "cuda:99" in taken.err) == (2, True)
    taken.leaves_nobody()


def test_a_run_that_comes_to_its_end_leaves_its_results(terminal: Any, tmp_path: Path) -> None:
    few = ("--set", "nodes=2", "--set", "rounds=2", "--set", "devices.threads=1")
    command = terminal.run("launch", "regression", "--detach", "--out", tmp_path, *few)
    assert command.code == 0
    attached = terminal.run("attach", "regression", "--out", tmp_path)
    assert (attached.code, "All sites predict the same number" in attached.out) == (0, True), attached.err
    waited = terminal.run("wait", "regression", "--out", tmp_path)
    assert (waited.code, waited.out) == (0, "regression: done\n")
    assert "report: " in (tmp_path / "regression" / "logs" / "screen.log").read_text()
    command.leaves_nobody()
