"""The core alone: what the extras install is blocked, and the smallest method runs all the same.

A `sitecustomize` that every process of the run imports makes the libraries of the extras look as if they were missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parent.parent
OF_EXTRAS = (
    "diffusers", "matplotlib", "open_clip", "opacus", "peft", "pydicom", "scipy", "sklearn", "tensorboard",
    "torchdiffeq", "torchmetrics", "torchvision", "transformers",
)  # fmt: skip
COMMAND = "import sys; from launch.cli import main; sys.exit(main())"
COMMANDS = """
import contextlib, io, json, sys
from launch.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fednet", *arguments]
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        try:
            code = main()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, error.getvalue(), sorted(sys.modules)]))
"""
"""Runs one command after the other; prints each one's exit code, its errors, and all modules imported until then."""
NEEDS_NO_MODEL: dict[tuple[str, ...], int] = {
    ("--version",): 0,
    ("examples",): 0,
    ("examples", "regression"): 0,
    ("keys", "list"): 0,
    ("ls",): 0,
    ("stop", "nothing"): 2,
    ("init", "new"): 0,
    ("init", "blank", "--blank"): 0,
    ("check", "no-such.yaml"): 2,
    ("check", "cmtii", "--set", "nodes=none"): 2,
    ("check", "fedbagan", "--set", "nodes=none"): 2,
    ("check", "novelty", "--set", "nodes=none"): 2,
    ("check", "private-gan", "--set", "nodes=none"): 2,
    ("check", "score-inference", "--set", "train.epochs=x"): 2,
}
"""Commands and what they exit with."""
HELP: dict[tuple[str, ...], int] = {
    ("--help",): 0,
    ("launch", "--help"): 0,
    ("ls", "--help"): 0,
    ("render", "compose", "--help"): 0,
    ("keys", "--help"): 0,
    ("novelty", "--help"): 0,
    ("novelty", "model", "get", "--help"): 0,
}
REFUSED: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("score-inference", "ac", {"model": {"conditional": True}}, "the pictures of c have none"),
    ("score-inference", "ad", {}, "differ in channels, height or width"),
    ("score-inference", "ax", {}, "x is not a folder"),
    ("private-gan", "ac", {"classifier": {"rounds": 1}, "privacy": {"budget": 1.0}}, "the pictures of c have none"),
    ("fedbagan", "abc", {}, "the pictures of c have none"),
    ("novelty", "abc", {}, "the pictures of c have none"),
    ("novelty", "ab", {}, "flow.unseen names the class"),
    ("cmtii", "abc", {}, "the pictures of c have none"),
    ("cmtii", "ab", {}, "the embedded models know the classes of the run's data"),
)
"""Runs of sites with folders of their own that do not fit: the method, the sites, settings, and what is said."""
EXTRAS = {
    "cmtii": "cmtii",
    "fedbagan": "images",
    "novelty": "diffusion",
    "private-gan": "privacy",
    "score-inference": "diffusion",
}
"""Which extra a method needs."""


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which nothing but the core is installed."""
    folder = tmp_path_factory.mktemp("core")
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({OF_EXTRAS!r}))\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def commands(
    called: Iterable[tuple[str, ...]], environment: dict[str, str], folder: Path
) -> list[tuple[int, str, set[str]]]:
    """Runs `fednet ARGUMENTS` for all of some arguments, in one new process; see `COMMANDS` for what it returns."""
    command = [sys.executable, "-c", COMMANDS, json.dumps(list(called))]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(code, error, set(modules)) for code, error, modules in lines]


def bare() -> dict[str, str]:
    """The environment of a process that finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.timeout(300)
def test_regression_runs_with_the_core_alone(core: dict[str, str], tmp_path: Path) -> None:
    settings = ("--set", "nodes=2", "--set", "rounds=2", "--set", "devices.threads=1")
    command = [sys.executable, "-c", COMMAND, "launch", "regression", "--out", str(tmp_path), *settings]
    done = subprocess.run(command, env=core, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads((tmp_path / "regression" / "metrics.json").read_text())["rounds"]) == 2


def test_a_method_whose_extra_is_missing_names_it(core: dict[str, str], tmp_path: Path) -> None:
    ends = commands([("check", method) for method in EXTRAS], core, tmp_path)
    for extra, (code, error, _) in zip(EXTRAS.values(), ends, strict=True):
        assert code == 2
        assert f"pip install 'fednet[{extra}]'" in error


def test_a_command_that_needs_no_model_imports_no_torch(tmp_path: Path) -> None:
    ends = commands(NEEDS_NO_MODEL, bare(), tmp_path)
    for (arguments, expected), (code, error, modules) in zip(NEEDS_NO_MODEL.items(), ends, strict=True):
        assert code == expected, (arguments, error)
        assert not modules & {"torch", "zmq"}, arguments


@pytest.mark.parametrize("command", ["check", "launch"])
def test_folders_that_do_not_fit_are_refused_without_what_trains(tmp_path: Path, command: str) -> None:
    """A launch of cmtii took 18 seconds to say that a folder has no classes: it had imported what trains."""
    for path, side in {"a/ant/0.png": 8, "a/bee/0.png": 8, "b/elk/0.png": 8, "c/0.png": 8, "d/ant/0.png": 9}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (side, side)).save(tmp_path / path)
    for number, (method, sites, settings, _) in enumerate(REFUSED):
        nodes = {site: {"data": {"name": "folder", "root": site}} for site in sites}
        text = yaml.safe_dump({"name": "own", "method": method, "nodes": nodes, **settings})
        (tmp_path / f"{number}.yaml").write_text(text)
    ends = commands([(command, f"{number}.yaml") for number in range(len(REFUSED))], bare(), tmp_path)
    for (_, _, _, wanted), (code, error, modules) in zip(REFUSED, ends, strict=True):
        assert code == 2
        assert wanted in error
        assert not modules & {"torch", *OF_EXTRAS}, wanted
    assert not (tmp_path / "runs").exists()


def test_a_help_text_is_written_by_the_standard_library_and_typer(tmp_path: Path) -> None:
    slow = {"torch", "numpy", "zmq", "rich", "yaml", "jinja2", "cryptography"}
    ends = commands(HELP, bare(), tmp_path)
    for (arguments, expected), (code, error, modules) in zip(HELP.items(), ends, strict=True):
        assert code == expected, (arguments, error)
        assert not modules & slow, arguments


def test_a_relay_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import launch.commands.node, launch.run.node\n"
        "from nodes.transport.relay import Relay\n"
        f"with Relay('ipc://{tmp_path}/relay'): print('relays')"
    )
    done = subprocess.run([sys.executable, "-c", script], env=bare(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("relays\n", "")
