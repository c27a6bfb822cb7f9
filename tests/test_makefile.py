"""`make`: an interpreter that is too old is named before anything is made, and a broken environment does not stay."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

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


def pinned(system: str = sys.platform, python: str = "3.11") -> dict[str, str]:
    """The versions in constraints.txt that are installed on a system, by the name of the package."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    environment: dict[str, str] = {
        **{name: str(value) for name, value in default_environment().items()},
        "sys_platform": system,
        "platform_machine": "x86_64",
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    found = [Requirement(line.removesuffix("\\")) for line in lines if re.match(r"[\w.-]+==", line)]
    applicable = [each for each in found if each.marker is None or each.marker.evaluate(environment)]
    return {each.name: str(each.specifier).removeprefix("==") for each in applicable}


class TestConstraints:
    def test_every_version_has_its_hashes_and_nothing_says_where_from(self) -> None:
        text = (ROOT / "constraints.txt").read_text()
        for entry in re.split(r"\n(?=[^\s#])", text)[1:]:
            assert re.fullmatch(
                r"[\w.-]+==[\w.+!-]+(?: ; [^\\\n]+)? \\\n(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+", entry
            ), entry[:200]
        assert "://" not in text

    @pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
    def test_all_that_fednet_requires_is_pinned(self, python: str) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"]
        wanted = [*project["dependencies"], *extras["dev"]]
        wanted += [each for name, of in extras.items() if name not in {"he", "bench", "dev", "all"} for each in of]
        versions = pinned("linux", python)
        for requirement in map(Requirement, wanted):
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if name != "fednet":
                assert requirement.specifier.contains(versions[name]), requirement
