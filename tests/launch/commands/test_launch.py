"""`fednet launch` passes its options on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fednet
from launch.commands.app import app
from launch.run import session


def test_the_options_reach_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(session, "launch", lambda *arguments, **options: calls.append((arguments, options)))
    arguments = ["launch", "regression", "--set", "rounds=2", "--out", "there", "--serve", "--resume"]
    done = CliRunner().invoke(app, arguments)
    assert done.stdout == f"fednet {fednet.__version__}\n"
    ((loaded, out, _), options), *_ = calls
    assert (loaded.method.rounds, out) == (2, Path("there"))
    options.pop("locked")
    assert options == {"serve": True, "insecure": False, "resume": True}
