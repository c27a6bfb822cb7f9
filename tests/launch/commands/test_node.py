"""`fednet node`: which node each role starts, with which endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.commands.app import app
from launch.errors import ConfigError
from launch.run import node
from launch.run.endpoint import EndpointOptions


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was started, with its arguments."""
    calls: list[Any] = []
    for name in ("run_node", "run_monitor", "run_relay"):
        monkeypatch.setattr(node, name, lambda *given, _name=name, **more: calls.append((_name, given, more)))
    return calls


@pytest.mark.parametrize(
    ("role", "function", "more"),
    [
        ("client", "run_node", ("--config", "regression", "--name", "a1")),
        ("guest", "run_node", ("--config", "regression")),
        ("monitor", "run_monitor", ()),
        ("relay", "run_relay", ()),
    ],
)
def test_a_role_starts_its_node(started: list[Any], role: str, function: str, more: tuple[str, ...]) -> None:
    arguments = ["node", "--role", role, "--listen", "tcp://127.0.0.1:7400", "--join", "tcp://127.0.0.1:1", *more]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    ((name, given, options),) = started
    assert name == function
    assert EndpointOptions("tcp://127.0.0.1:7400", join=("tcp://127.0.0.1:1",)) in given
    assert options.get("out", Path("runs")) == Path("runs")


def test_a_client_needs_a_configuration(started: list[Any]) -> None:
    done = CliRunner().invoke(app, ["node", "--role", "client", "--name", "a1"])
    assert isinstance(done.exception, ConfigError)
    assert started == []
