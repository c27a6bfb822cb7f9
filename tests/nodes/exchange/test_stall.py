"""Offers over a bus that loses, doubles, delays and reorders, among peers that come late, die and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fednet.conversations import Call
from fednet.federated.local import local_network
from nodes.memory_bus import Faults

Tell = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))


def comparable(record: Any) -> Any:
    """A record without what depends on the bus."""
    return record.key, record.offered, record.absorbed, record.values, record.refused, record.late, record.lost


@pytest.mark.parametrize("seed", range(6))
def test_trouble_on_the_way_changes_nothing_and_the_bus_leaves_what_one_process_leaves(
    tell: Tell, fair: Any, teachers: Any, seed: int
) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster, "a", "b", "c", "d")
        await market.assemble()
        alone = teachers("a", "b", "c", "d")
        local = local_network(alone, {})
        for number in range(5):
            record = await market.exchange(f"k{number}", subjects=3)
            assert comparable(record) == comparable(local.exchange(Call(f"k{number}", "learn", {"subjects": 3})))
            assert market.held() == {name: each.said() for name, each in alone.items()}
        assert cluster.network.lost > 20

    tell(story, TROUBLE, seed)
