"""A member's part in rounds that wait for nobody in particular (FedBuff); all else of a seat is in test_assembly.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

Tell = Callable[..., Any]


def slow(seconds: float) -> Callable[[Any], float]:
    """A device that takes so long to contribute, and no time for anything else."""
    return lambda job: seconds if "_contribute" in repr(job) else 0.0


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_the_slow_contribute_to_later_rounds_with_less_weight(tell: Tell, hall: Any, transport: str) -> None:
    """A and b take one second a round, c twenty: rounds close with two, and c's first work counts once it is done."""

    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        for name, seconds in (("a", 1.0), ("b", 1.0), ("c", 20.0)):
            await meeting.member(name, seconds=slow(seconds))
        await meeting.visitor()
        began = asyncio.get_running_loop().time()
        records = await meeting.run_rounds(rounds=30, transport=transport, buffer={"size": 2})
        assert asyncio.get_running_loop().time() - began < 100
        assert all(len(record.weights) >= 2 for record in records)
        late = [record for record in records if "c" in record.weights]
        assert 1 <= len(late) < 10
        staleness = late[0].values["c"]["staleness"]
        assert staleness >= 5
        assert late[0].weights["c"] == pytest.approx(3.0 * (1 + staleness) ** -0.5)
        assert sum("c" in record.late for record in records) == len(records) - len(late)
        await meeting.calm(30)
        assert meeting.digests() == {records[-1].digest}

    tell(story)


def test_a_late_contribution_is_the_change_that_it_made(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster, "a", "b")
        await meeting.member("a", seconds=slow(1.0))
        await meeting.member("b", seconds=slow(10.0))
        await meeting.visitor()
        meeting.members["a"].walker.step = 0.0  # a leaves the model as it is: what moves it is b
        records = await meeting.run_rounds(rounds=20, buffer={"size": 1, "exponent": 0.0})
        state = meeting.states()["a"]["w"]
        moved = [record for record in records if "b" in record.weights]
        expected, numbers = 0.0, [task.number for task in meeting.members["b"].walker.tasks]
        for record, number in zip(moved, numbers, strict=False):
            share = record.weights["b"] / sum(record.weights.values())
            expected += share * 2.0 * number
        assert moved
        assert torch.allclose(state, torch.full_like(state, expected))

    tell(story)
