"""How a command ends where the machine is at fault: a full disk, a screen that cannot show, a signal as PID 1.

Namespaces of Linux stand in for a small disk and for a container; where they may not be made, their tests are skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from launch.run.events import read_events

FEDNET = [sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())"]
COMMANDS = """
import json, sys
from launch.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fednet", *arguments]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    assert not code, (arguments, code)
"""
"""Runs one command after the other, in one process."""
SMALL = ("regression", "--set", "nodes=2", "--set", "devices.threads=1")
PATIENCE = 120
pytestmark = pytest.mark.timeout(300)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def fednet(
    *arguments: str, cwd: Path, inside: Sequence[str] = (), stdout: IO[str] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Runs `fednet ARGUMENTS` in a fresh Python, if given within another command."""
    command = [*inside, *FEDNET, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
    )


def namespaces(*options: str) -> list[str]:
    """The command that starts another in namespaces of its own, where that is allowed here."""
    command = ["unshare", "--map-root-user", *options]
    try:
        possible = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("no namespaces may be made here")
    return command


@pytest.mark.parametrize("size", [pytest.param("4k", marks=pytest.mark.slow), "80k"])
def test_a_full_disk_is_one_sentence_with_a_code_of_its_own_and_nothing_half_written(size: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "small").mkdir()
    script = f'mount -t tmpfs -o size={size} none small && "$@"; code=$?; cp -r small {kept}; exit $code'
    inside = [*namespaces("--mount"), "sh", "-c", script, "sh"]
    done = fednet("launch", *SMALL, "--set", "rounds=60", "--out", "small", cwd=tmp_path, inside=inside)
    said = done.stderr.decode()
    assert done.returncode == 5, said
    assert "the disk is full" in said.splitlines()[0]
    assert "Traceback" not in said
    assert not list(kept.rglob("*.part"))
    events = kept / "regression" / "events.jsonl"
    if events.exists():  # the smallest disk has no room for it
        assert len(list(read_events(events))) == len(events.read_text().splitlines())
    for path in kept.rglob("*.json"):
        json.loads(path.read_text())


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_run_whose_screen_lacks_characters_ends_well(encoding: str, tmp_path: Path, warm_python: Any) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        code = warm_python.start(
            ["launch", *SMALL, "--set", "rounds=1"], cwd=tmp_path, stdout=out.fileno(), stderr=err.fileno(),
            env={**os.environ, "PYTHONIOENCODING": encoding},
        ).wait(PATIENCE)  # fmt: skip
    assert code == 0, (tmp_path / "err").read_text(encoding)
    assert "report: runs/regression/report.html" in (tmp_path / "out").read_text(encoding)


def test_commands_whose_screen_lacks_characters_end_well(tmp_path: Path) -> None:
    called = [("doctor", *SMALL), ("examples",), ("check", *SMALL), ("launch", "--help")]
    command = [sys.executable, "-c", COMMANDS, json.dumps(called)]
    screen = environment(PYTHONIOENCODING="ascii")
    done = subprocess.run(command, cwd=tmp_path, env=screen, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Usage: fednet launch" in done.stdout


@pytest.mark.slow
def test_a_screen_that_cannot_be_written_does_not_end_a_run(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = fednet("launch", *SMALL, "--set", "rounds=1", cwd=tmp_path, stdout=full)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "runs" / "regression" / "report.html").is_file()


def test_sigterm_as_pid_1_ends_a_launch_that_is_still_loading(tmp_path: Path) -> None:
    command = [*namespaces("--pid", "--fork"), *FEDNET, "launch", *SMALL]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline().startswith("fednet ")  # the version; nothing else is loaded yet
        (inner,) = psutil.Process(outer.pid).children()
        inner.send_signal(signal.SIGTERM)
        assert outer.wait(PATIENCE) == 143
    assert not list(tmp_path.glob("runs/*/events.jsonl"))
