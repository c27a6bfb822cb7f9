"""A node on a lifeline, in a process of its own: who is at the other end, ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.engines.node_file import NodeFile
from launch.run.placed import STOP
from nodes.spec import NodeSpec

PATIENCE = 100
NODE = ["-m", "launch", "node"]


def started(folder: Path, warm_python: Any) -> subprocess.Popen[bytes]:
    """A client of a run of two, on its lifeline, that waits for the other."""
    from launch.config.schema import load_config

    settings = load_config("regression", ["nodes=2"]).method
    spec = NodeSpec(
        "a1", "client", "r", "tcp://127.0.0.1:0", count=2, folder=folder, method="regression", config=settings
    )
    process = subprocess.Popen(
        [warm_python.executable(folder), *NODE, "--spec", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(NodeFile.of(spec).text().encode() + b"\n")
    process.stdin.flush()
    while b"listens on" not in (line := process.stderr.readline()):
        assert line, "it ended"
    return process


def test_it_is_killed_when_nobody_is_there(tmp_path: Path, warm_python: Any) -> None:
    with started(tmp_path, warm_python) as left:
        assert left.stdin is not None
        left.stdin.close()
        assert left.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.slow
def test_it_ends_in_order_when_it_is_told_to(tmp_path: Path, warm_python: Any) -> None:
    """As one does that Ray's keeper has started."""
    with started(tmp_path, warm_python) as told:
        assert told.stdin is not None
        told.stdin.write(STOP)
        told.stdin.flush()
        assert told.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--spec", "none.json"], "none.json: expected a node file, got No such file"),
        (["--spec", "x", "--name", "a1"], "--spec: expected a node file alone, which says who the node is, got --name"),
        ([], "--role: expected client, guest, monitor or relay, got nothing"),
    ],
)
def test_what_cannot_be_started_is_one_sentence(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch.cli import main

    monkeypatch.setattr(sys, "argv", ["fednet", "node", *options])
    assert main() == 2
    assert said in capsys.readouterr().err


def test_a_node_that_cannot_start_leaves_with_its_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *NODE, "--spec", "none.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("expected a node file")) == (2, 1)
