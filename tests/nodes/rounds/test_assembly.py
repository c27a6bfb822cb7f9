"""Rounds between members on the in-memory bus and a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

Tell = Callable[..., Any]


def mean(*pairs: tuple[float, float]) -> float:
    """Weighted mean of (weight, value)."""
    return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)


STEP = mean((1, 1), (2, 2), (3, 3))


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
class TestRound:
    def test_everybody_ends_with_the_weighted_mean(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            (closed,) = await meeting.convene(transport=transport)
            assert closed.weights == {"a": 1.0, "b": 2.0, "c": 3.0}
            assert closed.values["b"] == {"step": 2.0}
            assert not closed.late
            assert not closed.lost
            assert not closed.refused
            await asyncio.sleep(1)
            assert meeting.digests() == {closed.digest}
            for state in meeting.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), STEP))
                assert torch.allclose(state["b"], torch.full((1,), 5 + STEP))

        tell(story)
