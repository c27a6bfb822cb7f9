"""A node starts a later life each time, whatever its clock says, and its owner hears of a clock that went back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes import incarnation
from nodes.errors import NodeError
from nodes.incarnation import begin_incarnation, kept_incarnation, next_incarnation, seconds_behind
from nodes.node import Node
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import LARGEST

HOUR = 3600 * 10**9

Tell = Callable[..., Any]


class _Clock:
    def __init__(self) -> None:
        self.now = 10 * HOUR

    def time_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(incarnation, "time", made)
    return made


@pytest.mark.parametrize(("now", "kept", "after"), [(5, None, 5), (5, 4, 5), (5, 5, 6), (5, 9, 10)])
def test_every_life_is_later_than_the_last(now: int, kept: int | None, after: int) -> None:
    assert next_incarnation(now, kept) == after


def test_it_is_on_the_disk_before_the_node_starts(tmp_path: Path, clock: _Clock) -> None:
    file = tmp_path / "incarnations" / "a"
    lives = [begin_incarnation(file, "a") for clock.now in (10 * HOUR, 9 * HOUR, 9 * HOUR, 11 * HOUR)]
    assert lives == [10 * HOUR, 10 * HOUR + 1, 10 * HOUR + 2, 11 * HOUR]
    assert kept_incarnation(file) == lives[-1]


def test_a_clock_that_went_back_is_told_to_its_owner(
    tmp_path: Path, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a"
    begin_incarnation(file, "a")
    assert caplog.text == ""
    clock.now -= HOUR
    assert seconds_behind(file, clock.now) == 3600.0
    begin_incarnation(file, "a")
    assert "the clock here is 3600.0 s behind the last start of a" in caplog.text


@pytest.mark.parametrize("content", ["", "soon", "-1", f"{LARGEST}", "1" * 40])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text(content)
    with pytest.raises(NodeError, match="remove it"):
        begin_incarnation(tmp_path / "a", "a")


def test_where_it_cannot_be_kept_the_node_starts_and_says_so(
    tmp_path: Path, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert begin_incarnation(tmp_path / "file" / "a", "a") == clock.now
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("keyed", [True, False])
def test_a_node_that_was_killed_comes_back_with_its_clock_an_hour_back(
    tell: Tell, tmp_path: Path, clock: _Clock, keyed: bool
) -> None:
    private = {name: PrivateKeys.make(name) for name in ("one", "other")}
    rings = {name: Keyring.of(keys, [each.public for each in private.values()]) for name, keys in private.items()}

    async def story(cluster: Any) -> None:
        one, _ = await cluster.start("one", keys=rings["one"] if keyed else None)
        spec = cluster.spec(
            "other",
            join=("one@memory://one",),
            keys=rings["other"] if keyed else None,
            incarnation_file=tmp_path / "other",
        )
        bus = cluster.network.bus()
        async with Node(spec, bus) as other:
            await asyncio.sleep(2)
            assert cluster.linked(one, other)
            bus.crash()
        clock.now -= HOUR
        async with Node(spec, cluster.network.bus()) as other:
            await asyncio.sleep(2)
            assert cluster.linked(one, other)

    tell(story)


def test_a_life_that_nobody_lets_in_is_named(tell: Tell, clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    async def story(cluster: Any) -> None:
        one, _ = await cluster.start("one")
        spec = cluster.spec("other", join=("one@memory://one",))
        for clock.now in (10 * HOUR, 9 * HOUR):
            async with Node(spec, cluster.network.bus()):
                await asyncio.sleep(2)
        assert one.counts["earlier life"] > 0

    tell(story)
    assert "other asks to join under an incarnation that is 3600.0 s earlier than its last one here" in caplog.text


def test_a_peer_whose_clock_differs_is_named_once(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(cluster: Any) -> None:
        one, _ = await cluster.start("one")
        other, _ = await cluster.start("other", "one")
        late = type("Late", (), {"time": staticmethod(lambda: time.time() - 600)})
        monkeypatch.setattr("nodes.publisher.time", late)
        await asyncio.sleep(20)
        assert cluster.linked(one, other)
        assert one.clock_ahead("other") == pytest.approx(-600, abs=1)

    with caplog.at_level(logging.WARNING):
        tell(story)
    said = [record.getMessage() for record in caplog.records if "the clock of other" in record.getMessage()]
    assert len(said) == 1
    assert "600.0 s behind the clock here" in said[0]
