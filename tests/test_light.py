"""The core alone: what the extras install is blocked, and the smallest method runs all the same.

A `sitecustomize` that every process of the run imports makes the libraries of the extras look as if they were missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OF_EXTRAS = (
    "diffusers", "matplotlib", "open_clip", "opacus", "peft", "pydicom", "scipy", "sklearn", "tensorboard",
    "torchdiffeq", "torchmetrics", "torchvision", "transformers",
)  # fmt: skip
COMMAND = "import sys; from launch.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which nothing but the core is installed."""
    folder = tmp_path_factory.mktemp("core")
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({OF_EXTRAS!r}))\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def fednet(core: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `fednet ARGUMENTS` with the core alone."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, env=core, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(300)
def test_regression_runs_with_the_core_alone(core: dict[str, str], tmp_path: Path) -> None:
    settings = ("--set", "nodes=2", "--set", "rounds=2", "--set", "devices.threads=1")
    done = fednet(core, "launch", "regression", "--out", str(tmp_path), *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads((tmp_path / "regression" / "metrics.json").read_text())["rounds"]) == 2


@pytest.mark.parametrize(
    ("method", "extra"),
    [
        ("cmtii", "cmtii"),
        ("fedbagan", "images"),
        ("novelty", "diffusion"),
        ("private-gan", "privacy"),
        ("score-inference", "diffusion"),
    ],
)
def test_a_method_whose_extra_is_missing_names_it(core: dict[str, str], method: str, extra: str) -> None:
    done = fednet(core, "check", method)
    assert done.returncode == 2
    assert f"pip install 'fednet[{extra}]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--version",), 0),
        (("examples",), 0),
        (("examples", "regression"), 0),
        (("keys", "list"), 0),
        (("ls",), 0),
        (("stop", "nothing"), 2),
        (("init", "new"), 0),
        (("init", "new", "--blank"), 0),
        (("check", "no-such.yaml"), 2),
        *(
            (("check", example, "--set", "nodes=none"), 2)
            for example in ("cmtii", "fedbagan", "novelty", "private-gan")
        ),
        (("check", "score-inference", "--set", "train.epochs=x"), 2),
    ],
)
def test_a_command_that_needs_no_model_imports_no_torch(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    assert loaded_by(arguments, code, {"torch", "zmq"}, tmp_path) == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("launch", "--help"),
        ("ls", "--help"),
        ("render", "compose", "--help"),
        ("keys", "--help"),
        ("novelty", "--help"),
        ("novelty", "model", "get", "--help"),
    ],
)
def test_a_help_text_is_written_by_the_standard_library_and_typer(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert (
        loaded_by(arguments, 0, {"torch", "numpy", "zmq", "rich", "yaml", "jinja2", "cryptography"}, tmp_path) == "[]"
    )


def loaded_by(arguments: tuple[str, ...], code: int, watched: set[str], folder: Path) -> str:
    """Runs `fednet ARGUMENTS`, which ends with a code; returns those of some modules that it has imported."""
    script = (
        "import atexit, sys\n"
        f"atexit.register(lambda: sys.stderr.write('\\n' + str(sorted({watched!r} & set(sys.modules)))))\n" + COMMAND
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_relay_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import launch.commands.node, launch.run.node\n"
        "from nodes.transport.relay import Relay\n"
        f"with Relay('ipc://{tmp_path}/relay'): print('relays')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("relays\n", "")
