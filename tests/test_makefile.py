"""`make`: an interpreter that is too old is named before anything is made, and a broken environment does not stay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what `make` reads."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def script(path: Path, line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` as if a person called it: the tests themselves may run under one, whose variables would reach this one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def test_an_interpreter_that_is_too_old_is_named_and_nothing_is_made(folder: Path) -> None:
    old = script(
        folder / "python3.9",
        f'exec {sys.executable} -c "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[1])" "$2"',
    )
    done = make(folder, "demo", f"PYTHON={old}")
    assert done.returncode != 0
    assert "fednet needs Python 3.11 or later, and this is 3.9: make PYTHON=python3.11" in done.stderr
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("line", ["exit 1", 'test "$1" = -c'], ids=["does not run", "has no pip"])
def test_a_broken_environment_does_not_stay(folder: Path, line: str) -> None:
    script(folder / ".venv" / "bin" / "python", line)
    (folder / ".venv" / "ready").touch()
    done = make(folder, "--dry-run", "demo")
    assert "-m venv .venv" in done.stdout
    assert not (folder / ".venv").exists()


def test_an_environment_that_works_stays(folder: Path) -> None:
    script(folder / ".venv" / "bin" / "python", "exit 0")
    (folder / ".venv" / "ready").touch()
    assert make(folder, "--dry-run", "demo").stdout == ".venv/bin/fednet launch score-inference\n"
