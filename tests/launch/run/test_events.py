"""The file of events."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from launch.run.events import EventFile, EventTail, LauncherEvent, make_event, read_events


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    happened = [
        LauncherEvent(1.25, "a1", "started", {"pid": 3}),
        LauncherEvent(2.0, "", "over", {"code": 0, "folder": "x"}),
    ]
    with EventFile(path) as file:
        for each in happened:
            file.write(each)
            assert path.read_text().endswith("\n")  # on disk at once
    assert list(read_events(path)) == happened


def test_values_that_json_does_not_know_become_text(tmp_path: Path) -> None:
    with EventFile(tmp_path / "e") as file:
        file.write(make_event("a1", "joined", folder=Path("x")))
    assert next(read_events(tmp_path / "e")).data == {"folder": "x"}


def test_a_loss_that_diverged_is_json(tmp_path: Path) -> None:
    with EventFile(tmp_path / "e") as file:
        file.write(make_event("a1", "progress", values={"loss": math.inf}))
    (line,) = (tmp_path / "e").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["data"] == {"values": {"loss": "Infinity"}}


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventFile(path) as file:
        file.write(make_event("a1", "started"))
    path.write_text(path.read_text() + '{"time": 3, "no')
    assert [each.kind for each in read_events(path)] == ["started"]


def test_no_file_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "nothing")) == []


def test_a_growing_file_is_read_line_by_line_and_each_once(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    assert tail.read() == []
    with EventFile(tmp_path / "events.jsonl") as file:
        file.write(make_event("a1", "ready"))
        assert [event.kind for event in tail.read()] == ["ready"]
        with (tmp_path / "events.jsonl").open("a") as half:
            half.write('{"time": 1, "node": "a1", ')
        assert tail.read() == []
        with (tmp_path / "events.jsonl").open("a") as rest:
            rest.write('"kind": "lost", "data": {}}\n')
        assert [event.kind for event in tail.read()] == ["lost"]
