"""A whole run is killed in the middle and launched again: it goes on from the last closed round to the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONGER = ("flow.rounds=2", "flow.detector_rounds=6")


def launched(terminal: Any, out: str) -> Any:
    """`fednet launch novel.yaml` with more rounds, started."""
    command = terminal.start(
        "launch", "novel.yaml", "--out", out, *(part for each in LONGER for part in ("--set", each))
    )
    command.run = terminal.folder / out / "novel"
    return command


def journal(run: Path) -> dict[str, Any]:
    path = run / "journal.json"
    return json.loads(path.read_text()) if path.exists() else {}


def outcome(run: Path) -> dict[str, Any]:
    """All numbers of a run but those that tell how long it took and who led."""
    found = json.loads((run / "metrics.json").read_text())
    for one in (found["first"], *found["rounds"], *found["detector"]):
        del one["closed"]["seconds"], one["closed"]["lead"]
    return found


@pytest.fixture(scope="module")
def whole(terminal: Any) -> Path:
    command = launched(terminal, "whole")
    assert command.ends() == 0, command.err
    return command.run


@pytest.mark.parametrize("step", ["first-labels", "detector-2"])
def test_a_killed_run_goes_on_to_the_result_of_an_undisturbed_one(terminal: Any, whole: Path, step: str) -> None:
    killed = launched(terminal, step)
    killed.until(lambda: step in journal(killed.run), step)
    killed.kill()
    before = journal(killed.run)
    assert "detector-6" not in before
    again = launched(terminal, step)
    assert again.ends() == 0, again.err
    after = journal(again.run)
    assert {key: after[key] for key in before} == before  # with the seconds they took: they were not held again
    assert outcome(again.run) == outcome(whole)
    digests = [one["closed"]["digest"] for one in outcome(whole)["detector"]]
    assert len(set(digests)) == 6
