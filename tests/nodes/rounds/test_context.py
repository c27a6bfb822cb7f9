"""What is begun is done to its end: an outcome is taken over as a whole, whoever is told to stop meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nodes.rounds.context import wait_finished

Play = Callable[..., Any]


def test_who_is_cancelled_stops_only_afterwards(fake_time: Play) -> None:
    async def story() -> None:
        done: list[int] = []

        async def work() -> None:
            await asyncio.sleep(5)
            done.append(1)

        async def wait() -> None:
            await wait_finished(asyncio.ensure_future(work()))
            done.append(2)

        waiting = asyncio.ensure_future(wait())
        for _ in range(3):
            await asyncio.sleep(1)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert done == [1]

    fake_time(story())


@pytest.mark.parametrize("moment", [0.3, 1.2, 2.2, 2.9])
def test_a_participant_has_what_its_member_has(tell: Callable[..., Any], hall: Any, moment: float) -> None:
    """The lead dies while the others take over or compute: nobody ends between two rounds."""

    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        task = asyncio.ensure_future(meeting.run_rounds(rounds=3))
        await asyncio.sleep(moment)
        meeting.bury("a")
        await task
        await meeting.calm()
        for member in meeting.members.values():
            model, number, state = member.walker.adopted[-1]
            assert number == member.assembly.models.kept[model].standing.number == 3
            assert all(state[name].equal(each) for name, each in member.assembly.models.kept[model].state.items())
            assert not member.assembly.models.votes

    tell(story)
