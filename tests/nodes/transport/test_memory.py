"""The bus in memory: it carries what a real one carries, and goes wrong exactly as it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from nodes.errors import NodeError
from nodes.transport.memory import Faults, MemoryNetwork, MemoryTransport
from protocol.security.budget import Cost

Play = Callable[[Any], Any]


class Ear:
    """Remembers what a bus hears and notices."""

    def __init__(self) -> None:
        self.heard: list[list[bytes]] = []
        self.noticed: list[tuple[bytes, bool]] = []

    def received(self, frames: Sequence[Any], origin: str = "") -> None:
        self.heard.append([bytes(frame) for frame in frames])

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return True

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        self.noticed.append((topic, present))

    def refused(self, kind: str, why: str) -> None:
        """Nothing is refused in these tests."""


async def pair(network: MemoryNetwork) -> tuple[MemoryTransport, Ear, MemoryTransport, Ear]:
    """Two open buses, the second of which hears the first under `news/`."""
    (one, ear), (other, other_ear) = ((network.bus(), Ear()) for _ in range(2))
    await one.open("memory://one", ear)
    await other.open("memory://other", other_ear)
    other.subscribe(["news/"])
    other.connect("memory://one")
    await asyncio.sleep(0)
    return one, ear, other, other_ear


def test_it_brings_what_was_subscribed_to_and_nothing_else(fake_time: Play) -> None:
    async def story() -> None:
        one, _, other, ear = await pair(MemoryNetwork())
        for topic in (b"news/", b"other/", b"news/local/"):
            one.publish([topic, b"x"])
        other.publish([b"news/", b"nobody hears it"])
        await asyncio.sleep(1)
        assert ear.heard == [[b"news/", b"x"], [b"news/local/", b"x"]]

    fake_time(story())


def test_subscriptions_are_noticed_whoever_comes_first_and_so_is_a_break(fake_time: Play) -> None:
    async def story() -> None:
        network = MemoryNetwork()
        early, late, ear = network.bus(), network.bus(), Ear()
        await early.open("memory://early", Ear())
        early.subscribe(["join/early/"])
        early.connect("memory://late")
        await late.open("memory://late", ear)
        await asyncio.sleep(0)
        assert ear.noticed == [(b"join/early/", True)]
        early.subscribe(["more/"])
        early.crash()
        await asyncio.sleep(0)
        assert ear.noticed[1:] == [(b"more/", True), (b"join/early/", False), (b"more/", False)]

    fake_time(story())


def test_who_disconnects_hears_no_more_and_may_come_back(fake_time: Play) -> None:
    async def story() -> None:
        one, noticed, other, ear = await pair(MemoryNetwork())
        other.disconnect("memory://one")
        other.disconnect("memory://one")
        one.publish([b"news/", b"missed"])
        other.connect("memory://one")
        other.connect("memory://one")
        one.publish([b"news/", b"heard"])
        await asyncio.sleep(1)
        assert ear.heard == [[b"news/", b"heard"]]
        assert noticed.noticed == [(b"news/", True), (b"news/", False), (b"news/", True)]

    fake_time(story())


def test_an_address_is_taken_until_its_bus_is_closed(fake_time: Play) -> None:
    async def story() -> None:
        network = MemoryNetwork()
        bus = network.bus()
        await bus.open("memory://one", Ear())
        with pytest.raises(NodeError, match="memory://one: address already in use"):
            await network.bus().open("memory://one", Ear())
        await bus.close()
        await network.bus().open("memory://one", Ear())

    fake_time(story())


def test_a_message_is_a_copy_from_the_moment_it_is_published(fake_time: Play) -> None:
    async def story() -> None:
        one, _, _, ear = await pair(MemoryNetwork(Faults(delay=(1.0, 1.0))))
        payload = bytearray(b"before")
        one.publish([b"news/", payload])
        payload[:] = b"after!"
        await asyncio.sleep(2)
        assert ear.heard == [[b"news/", b"before"]]

    fake_time(story())


def run_with(faults: Faults, seed: int, fake_time: Play) -> list[int]:
    """The numbers that arrive of 200 sent at once, in the order of their arrival."""

    async def story() -> list[int]:
        one, _, _, ear = await pair(MemoryNetwork(faults, seed))
        for number in range(200):
            one.publish([b"news/", str(number).encode()])
        await asyncio.sleep(10)
        return [int(frames[1]) for frames in ear.heard]

    numbers: list[int] = fake_time(story())
    return numbers


def test_without_faults_all_comes_once_and_in_order(fake_time: Play) -> None:
    assert run_with(Faults(), 0, fake_time) == list(range(200))


def test_faults_drop_duplicate_and_reorder_and_a_seed_replays_them(fake_time: Play) -> None:
    faults = Faults(drop=0.2, duplicate=0.2, delay=(0.0, 1.0))
    numbers = run_with(faults, 7, fake_time)
    assert numbers == run_with(faults, 7, fake_time)
    assert numbers != run_with(faults, 8, fake_time)
    assert 100 < len(set(numbers)) < 200
    assert len(set(numbers)) < len(numbers)
    assert numbers != sorted(numbers)


def test_what_is_cut_is_silent_until_it_heals_and_nobody_is_told(fake_time: Play) -> None:
    async def story() -> None:
        network = MemoryNetwork()
        one, noticed, _, ear = await pair(network)
        network.cut("memory://other", "memory://one")
        one.publish([b"news/", b"lost"])
        await asyncio.sleep(1)
        network.heal("memory://one", "memory://other")
        one.publish([b"news/", b"heard"])
        await asyncio.sleep(1)
        assert ear.heard == [[b"news/", b"heard"]]
        assert noticed.noticed == [(b"news/", True)]
        assert (network.carried, network.lost) == (2, 1)

    fake_time(story())


@pytest.mark.parametrize(("heartbeats_too", "expected"), [(False, 4), (True, 0)])
def test_heartbeats_come_by_themselves_and_are_spared_unless_told_otherwise(
    fake_time: Play, heartbeats_too: bool, expected: int
) -> None:
    async def story() -> None:
        one, _, _, ear = await pair(MemoryNetwork(Faults(drop=1.0, heartbeats_too=heartbeats_too)))
        one.beat(lambda: [b"news/", b"beat"], 0.25)
        await asyncio.sleep(0.9)
        assert len(ear.heard) == expected
        await one.close()
        await asyncio.sleep(5)
        assert len(ear.heard) == expected

    fake_time(story())
