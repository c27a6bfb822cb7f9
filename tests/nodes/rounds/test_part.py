"""Buffered rounds (FedBuff): a round closes with the first contributions, and late ones count in later rounds.

The rest of a member's part in rounds is in test_service*.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


def slow(seconds: float) -> Callable[[Any], float]:
    """A device that takes so long to contribute, and no time for anything else."""
    return lambda job: seconds if "_contribute" in repr(job) else 0.0


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_the_slow_contribute_to_later_rounds_with_less_weight(
    tell: Tell, make_group: MakeGroup, transport: str
) -> None:
    """A and b take one second a round, c twenty: rounds close with two, and c's first work counts once it is done."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        for name, seconds in (("a", 1.0), ("b", 1.0), ("c", 20.0)):
            await group.member(name, seconds=slow(seconds))
        await group.add_driver()
        began = asyncio.get_running_loop().time()
        records = await group.run_rounds(rounds=30, transport=transport, buffer={"size": 2})
        assert asyncio.get_running_loop().time() - began < 100
        assert all(len(record.weights) >= 2 for record in records)
        late = [record for record in records if "c" in record.weights]
        assert 1 <= len(late) < 10
        staleness = late[0].values["c"]["staleness"]
        assert staleness >= 5
        assert late[0].weights["c"] == pytest.approx(3.0 * (1 + staleness) ** -0.5)
        assert sum("c" in record.late for record in records) == len(records) - len(late)
        await group.settle(30)
        assert group.digests() == {records[-1].digest}

    tell(story)


def test_a_late_contribution_is_the_change_that_it_made(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a", "b")
        await group.member("a", seconds=slow(1.0))
        await group.member("b", seconds=slow(10.0))
        await group.add_driver()
        group.members["a"].participant.step = 0.0  # a leaves the model as it is: what moves it is b
        records = await group.run_rounds(rounds=20, buffer={"size": 1, "exponent": 0.0})
        state = group.states()["a"]["w"]
        apply_change = [record for record in records if "b" in record.weights]
        expected, numbers = 0.0, [task.number for task in group.members["b"].participant.tasks]
        for record, number in zip(apply_change, numbers, strict=False):
            share = record.weights["b"] / sum(record.weights.values())
            expected += share * 2.0 * number
        assert apply_change
        assert torch.allclose(state, torch.full_like(state, expected))

    tell(story)
