"""A member dies at any moment of a round whose states travel in several chunks: the result is that of who is counted.

A moment is the departure of a message, of anybody's, heartbeats left out. `tests/soak/deaths.py` kills real processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FOUR = ("a", "b", "c", "d")
SECURE = {"clip": 64.0}
CHUNK, BOUND = 16, 1e-5
SOME, ALL = 4, pytest.param(10**6, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])
"""Moments that are taken, at most."""


def dies_at(group: Any, victim: str, moment: int) -> list[int]:
    """A member crashes when so many messages have left; returns how many have."""
    network, sent = group.cluster.network, [0]
    carry = network.carry

    def counting(sender: str, frames: Sequence[Any], *, heartbeat: bool) -> None:
        carry(sender, frames, heartbeat=heartbeat)
        sent[0] += not heartbeat
        if sent[0] == moment and victim in group.members:
            asyncio.get_running_loop().call_soon(group.crash, victim)

    network.carry = counting
    return sent


async def require_mean(group: Any, records: Sequence[Any], secure: dict[str, Any] | None) -> None:
    """Everybody has the mean of those that the records name: the same bits, or as close as quantising comes."""
    if secure is None:
        await group.require_converged(records)
        return
    moved = 0.0
    for number, record in enumerate(records, 1):
        total = sum(record.weights.values())
        moved += number * sum(weight * (FOUR.index(name) + 1) for name, weight in record.weights.items()) / total
    await group.settle()
    assert group.digests() == {records[-1].digest}
    for state in group.states().values():
        assert torch.allclose(state["w"], torch.full((3, 2), moved), atol=BOUND)


@pytest.mark.parametrize("most", [SOME, ALL], ids=["some moments", "every moment"])
@pytest.mark.parametrize("victim", ["a", "c"], ids=["the leader", "a member"])
@pytest.mark.parametrize("secure", [None, SECURE], ids=["plain", "secure"])
def test_the_result_is_that_of_those_who_are_counted(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], *, secure: Any, victim: str, most: int
) -> None:
    chunks_of(CHUNK)

    async def story(cluster: Any, moment: int) -> int:
        group = make_group(cluster, *FOUR)
        await group.start()
        await group.settle()
        assert group.leader() == "a"
        sent = dies_at(group, victim, moment)
        records = await group.run_rounds(rounds=2, transport="sharded", secure=secure)
        assert set(records[-1].weights) >= set(group.members)
        await require_mean(group, records, secure)
        return sent[0]

    messages = tell(lambda cluster: story(cluster, -1))
    assert messages > 100, "of both rounds"
    for moment in range(1, messages // 2, max(1, messages // 2 // most)):
        tell(lambda cluster, moment=moment: story(cluster, moment))
