"""A member learns who is lost, who has left and who has come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from protocol.messages import (
    ProgressReport,
)
from protocol.presence import PeerState
from protocol.topics import PROGRESS

Tell = Callable[..., Any]

progress_report = partial(ProgressReport, done=0, total=0, values={})


class TestLosses:
    def test_a_cut_is_a_loss_after_the_silence_and_heals_by_itself(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one")
            other, _ = await cluster.start("other", "one")
            await asyncio.sleep(1)
            cluster.network.cut(one.address, other.address)
            await asyncio.sleep(2.7)
            assert cluster.linked(one, other)
            await asyncio.sleep(0.4)
            assert one.presence.state("other") is other.presence.state("one") is PeerState.LOST
            cluster.network.heal(one.address, other.address)
            await asyncio.sleep(1)
            assert cluster.linked(one, other)
            assert [event[:2] for event in ear.events] == [("linked", "other"), ("lost", "other"), ("linked", "other")]

        tell(story)

    def test_a_crash_is_a_loss_within_a_second(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            _, ear = await cluster.start("one")
            other, _ = await cluster.start("other", "one")
            await asyncio.sleep(1)
            other._bus.crash()  # type: ignore[attr-defined]
            await asyncio.sleep(0.9)
            ((kind, name, reason),) = ear.events[1:]
            assert (kind, name) == ("lost", "other")
            assert reason.startswith("its connection broke")

        tell(story)

    def test_a_cut_between_old_acquaintances_is_a_loss_within_a_second(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one")
            other, _ = await cluster.start("other", "one")
            await asyncio.sleep(30)
            cluster.network.cut(one.address, other.address)
            await asyncio.sleep(0.9)
            assert [event[:2] for event in ear.events] == [("linked", "other"), ("lost", "other")]

        tell(story)

    def test_a_goodbye_is_told_with_its_reason(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            _, ear = await cluster.start("one")
            other = Node(cluster.spec("other", join=("memory://one",)), cluster.network.bus())
            await other.__aenter__()
            await asyncio.sleep(1)
            await other.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
            await asyncio.sleep(0.1)
            assert ear.events[1:] == [("left", "other", "ZeroDivisionError")]

        tell(story)

    def test_a_full_disk_is_told_to_the_others(self, tell: Tell) -> None:
        async def fails() -> None:
            raise OSError(28, "No space left on device")

        async def story(cluster: Any) -> None:
            _, ear = await cluster.start("one")
            other = Node(cluster.spec("other", join=("memory://one",)), cluster.network.bus())
            await other.__aenter__()
            await asyncio.sleep(1)
            failing = other.spawn(fails(), "writes")
            with pytest.raises(asyncio.CancelledError):  # the body of the node, which the failure ends
                await asyncio.wait([failing])
            with pytest.raises(ExceptionGroup):
                await other.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)
            await asyncio.sleep(0.1)
            assert ear.events[1:] == [("left", "other", "its disk is full")]

        tell(story)

    def test_a_loop_that_hangs_is_a_loss(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            _, ear = await cluster.start("one")
            other, _ = await cluster.start("other", "one")
            await asyncio.sleep(1)
            (sweep,) = other._works
            sweep.cancel()  # its heart beats on, as it does on its own thread
            await asyncio.sleep(29)
            assert ear.events[1:] == []
            await asyncio.sleep(2)
            ((kind, _, reason),) = ear.events[1:]
            assert kind == "lost"
            assert "stood still" in reason

        tell(story)

    def test_a_restarted_node_is_the_same_name_and_a_new_start(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one")
            old, _ = await cluster.start("other", "one")
            await asyncio.sleep(1)
            for number in range(5):
                old.publish(PROGRESS, progress_report(phase=f"old {number}"))
            await asyncio.sleep(0.1)
            old._bus.crash()  # type: ignore[attr-defined]
            new, _ = await cluster.start("other", "one")
            await asyncio.sleep(1)
            new.publish(PROGRESS, progress_report(phase="new"))
            await asyncio.sleep(1)
            assert cluster.linked(one, new)
            assert ear.heard[5:] == ["new"]
            assert [event[0] for event in ear.events] == ["linked", "lost", "linked"]

        tell(story)
