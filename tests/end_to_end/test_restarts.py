"""A site that is killed comes back by itself, under its name and as its next incarnation, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROUNDS = 40
KEYED = ("--set", "nodes=2", "--set", "rounds=3", "--set", "security.keys=keys")
pytestmark = pytest.mark.timeout(300)


def test_a_killed_site_comes_back_and_holds_what_the_others_hold(terminal: Any) -> None:
    settings = ("nodes=3", f"rounds={ROUNDS}", "devices.threads=1", "engine.restart=1")
    options = [part for setting in settings for part in ("--set", setting)]
    command = terminal.start("launch", "regression", "--out", "back", *options)
    command.run = terminal.folder / "back" / "regression"
    command.until(lambda: command.works_on("rounds"), "rounds are held")
    command.kill_node("a2")
    assert command.ends() == 0, command.err
    assert [event.data["cause"] for event in command.happened("restarting")] == ["was killed by SIGKILL"]
    assert [event.node for event in command.happened("started")].count("a2") == 2
    assert not command.happened("died")
    assert len({digest(command.run, name) for name in ("a1", "a2", "a3")}) == 1
    command.leaves_nobody()


def digest(run: Path, site: str) -> str:
    """The digest of the model that a site holds in the end."""
    (folder,) = run.glob(f"checkpoints/{site}-rounds-*")
    (held,) = folder.glob(f"line-{ROUNDS:06}-*.safetensors")
    return held.stem


def test_the_private_node_files_go_with_the_launch(terminal: Any) -> None:
    command = terminal.start(
        "launch", "regression", "--out", "keyed", "--set", "nodes=2", "--set", "security.keys=keys"
    )
    command.until(lambda: list(command.folder.glob("keyed/regression/events.jsonl")), "it begins")
    assert command.ends() == 0, command.err
    assert json.loads((terminal.folder / "keyed" / "regression" / "metrics.json").read_text())
    assert not list(command.temporary.rglob("*.json"))
