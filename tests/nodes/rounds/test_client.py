"""An order is said until its rounds are over, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import RoundPlan, Stopped
from fednet.errors import MethodError
from fednet.federated.config import Federation
from nodes.rounds.client import REQUEST_INTERVAL
from protocol.messages import RoundsRequest

Tell = Callable[..., Any]


def listened(meeting: Any) -> list[RoundsRequest]:
    """The orders that the guest says from now on."""
    said: list[RoundsRequest] = []
    publish = meeting.guest.publish

    def heard(topic: str, message: Any) -> None:
        if isinstance(message, RoundsRequest):
            said.append(message)
        publish(topic, message)

    meeting.guest.publish = heard
    return said


def test_an_order_is_said_again_with_what_was_heard(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        said = listened(meeting)
        await meeting.run_rounds(rounds=8)
        heard = [order.after for order in said]
        assert len(heard) > 3
        assert heard == sorted(heard)
        assert heard[-1] > 2
        before = len(said)
        await asyncio.sleep(5 * REQUEST_INTERVAL)
        assert len(said) == before, "it is over"

    tell(story)


def test_who_waits_no_more_orders_no_more(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        said = listened(meeting)
        given = {"w": torch.zeros(3, 2), "b": torch.zeros(1)}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await meeting.run_rounds(given=given)
        await asyncio.sleep(5 * REQUEST_INTERVAL)
        assert len(said) == 1
        assert not meeting.convener._blob_store._kept

    tell(story)


def test_every_record_is_handed_over_when_its_round_closes_and_then_told_to_the_progress(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        heard: list[Any] = []

        class Listener:
            def report(self, phase: str, done: int, total: int, **values: float) -> None:
                heard.append((phase, done, total, values["contributed"]))

        plan = RoundPlan("k", "walk", "w", 2, Federation())
        records = await meeting.convener.run_rounds(plan, Listener(), heard.append)
        assert heard == [records[0], ("walk rounds", 1, 2, 3.0), records[1], ("walk rounds", 2, 2, 3.0)]

    tell(story)


def test_a_progress_that_says_stop_ends_the_rounds(tell: Tell, hall: Any) -> None:
    class Stopping:
        def report(self, *_report: Any, **_values: float) -> None:
            raise Stopped

    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        said = listened(meeting)
        with pytest.raises(Stopped):
            await meeting.convener.run_rounds(RoundPlan("k", "walk", "w", 50, Federation()), Stopping())
        before = len(said)
        await asyncio.sleep(5 * REQUEST_INTERVAL)
        assert len(said) == before

    tell(story)


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"key": ""}, {"model": "no name"}])
def test_what_is_no_programme_is_not_ordered(tell: Tell, hall: Any, changes: dict[str, Any]) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster, "a")
        await meeting.assemble()
        said: dict[str, Any] = {"key": "k", "model": "walk", "work": "w", "rounds": 1, "federation": Federation()}
        with pytest.raises(MethodError, match="cannot be ordered"):
            await meeting.convener.run_rounds(RoundPlan(**(said | changes)))

    tell(story)
