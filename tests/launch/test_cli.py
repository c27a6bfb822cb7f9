"""The command line: quick, short-spoken, and with the right exit code."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fednet.errors import DataError
from launch import cli
from launch.commands import examples as examples_command
from launch.errors import DEBUG, ConfigError, ConfigProblem, RunError
from nodes.errors import PeersMissing


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(ConfigProblem("c.yaml", "a number", "'[x]'", 3, "k")), 2),
        (PeersMissing({"a1": "silent"}, 3.0), 3),
        (DataError("no data at /x"), 4),
        (RunError("interrupted", 130), 130),
    ],
)
def test_an_error_is_one_message_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any, code: Any
) -> None:
    def fails(name: Any) -> None:
        raise error

    monkeypatch.setattr(examples_command, "example_text", fails)
    monkeypatch.setattr(sys, "argv", ["fednet", "examples", "x"])
    monkeypatch.delenv(DEBUG, raising=False)
    assert cli.main() == code
    said = capsys.readouterr()
    assert said.err == f"fednet: {error}\n"
    assert said.out == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fednet", "examples", "nothing"])
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ConfigError):
        cli.main()


@pytest.mark.parametrize(
    "arguments",
    [
        ("launch", "no/such.yaml"),
        ("launch", "control", "--resume"),
        ("launch", "control", "--set", "devices.device=cuda:99"),
        ("launch", "control", "--set", "nodes={a1: {listen: 'tcp://0.0.0.0:5000'}}"),
        ("node", "--role", "client"),
        ("node", "--role", "client", "--config", "control", "--name", "nobody"),
        ("node", "--role", "monitor"),
        ("check", "control", "--set", "train.epochs=x"),
        ("check", "control", "--set", "data={name: mnist, root: /no/such}"),
        ("check", "regression", "--set", "federation={secure: {}, rule: {kind: krum}}"),
        ("check", "regression", "--set", "nodes=2", "--set", "federation={secure: {}}"),
        ("fid", "/no/such/folder", "/nor/this"),
        ("sample", "--join", "tcp://127.0.0.1:1", "-o", "no/such/grid.png"),
        ("sample", "--join", "tcp://127.0.0.1:1", "--listen", "tcp://0.0.0.0:0"),
        ("novelty", "infer", "no-such.png", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "infer", "/dev/null", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "train", "--labels", "0-2", "--labels", "3", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "train", "--labels", "0-2", "--epochs", "1", "--steps", "1", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "train", "--labels", "0", "--model", "own-detector", "--mu", "0.1", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "validate", "--labels", "3-1", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "calibrate", "--model", "detector", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "model", "get", "no/such/folder/x.safetensors", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "model", "set", "no-such.safetensors", "--join", "tcp://127.0.0.1:1"),
        ("novelty", "model", "set", "/", "--join", "tcp://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    arguments: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fednet", *arguments])
    assert cli.main() == 2
    assert capsys.readouterr().err.startswith("fednet: ")
    assert not list(tmp_path.iterdir())
