"""The application of all commands: it imports nothing slow, lists what there is and says its version."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from typer.testing import CliRunner

import fednet
from launch.commands.app import app
from launch.config import examples


def fednet_says(*arguments: Any, **environment: Any) -> Any:
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_version() -> None:
    assert fednet_says("--version").stdout.strip() == f"fednet {fednet.__version__}"


def test_nothing_that_every_command_imports_imports_torch() -> None:
    probe = (
        "import sys, launch.commands.app; print(sorted({'torch', 'diffusers', 'zmq', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_examples_are_listed_and_printed() -> None:
    listed = fednet_says("examples", COLUMNS="200").stdout
    assert all(name in listed for name in examples.example_texts())
    assert fednet_says("examples", "control").stdout == examples.example_text("control")


def test_check_says_what_would_start() -> None:
    said = fednet_says("check", "score-inference", "--set", "nodes=3", COLUMNS="200")
    assert said.exit_code == 0
    _, nodes = said.stdout.split("score-inference is fine")
    assert [line.split()[0] for line in nodes.splitlines()[2:]] == ["a1", "a2", "a3", "driver"]


def test_an_unknown_option_is_the_operators_error() -> None:
    assert fednet_says("check", "--sat", "x").exit_code == 2
