"""`fednet check` and `fednet doctor`: what they print, and what they pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.commands.app import app
from launch.run import doctor


def test_check_prints_what_would_be_started() -> None:
    done = CliRunner().invoke(app, ["check", "regression", "--set", "nodes=2", "--set", "seed=7"])
    assert done.exit_code == 0
    assert "regression is fine: method regression, seed 7" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines()[2:]] == ["client", "client", "guest"]


def test_doctor_gets_the_key_and_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(doctor, "run_doctor", lambda *arguments, **options: calls.append((arguments, options)))
    assert CliRunner().invoke(app, ["doctor", "regression", "--key", "a.key", "--out", "there"]).exit_code == 0
    ((_, out, _), options), *_ = calls
    assert (out, options) == (Path("there"), {"key": Path("a.key"), "insecure": False})
