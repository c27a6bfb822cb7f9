"""Addresses are claims: whoever proves its key is heard, whoever else claims its address, before or after."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from nodes.transport.zmq import ZmqTransport
from protocol.security.budget import Cost
from protocol.security.keys import Keyring, PrivateKeys
from tests.ports import free_ports

PATIENCE = 20.0
NAMES = ("anna", "ben", "eve")
KEYS = {name: PrivateKeys.make(name) for name in NAMES}
RELAY = PrivateKeys.make("hub", "relay")
TRUSTED = [*(keys.public for keys in KEYS.values()), RELAY.public]
ANYWHERE = "tcp://127.0.0.1:0"


class Ear:
    """Remembers what a transport hears, and from whom."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.noticed = 0
        self._changed = asyncio.Event()

    def received(self, frames: Sequence[Any], origin: str = "") -> None:
        self.heard.append((origin, bytes(frames[1])))
        self._changed.set()

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return True

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        self.noticed += present
        self._changed.set()

    def refused(self, kind: str, why: str) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Wire:
    """Opens transports, with keys or without, and closes them at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack

    async def open(self, name: str = "", listen: str = ANYWHERE) -> tuple[ZmqTransport, Ear, str]:
        bus = ZmqTransport(keys=Keyring.of(KEYS[name], TRUSTED) if name else None)
        address, _ = await bus.open(listen, ear := Ear())
        self.stack.push_async_callback(bus.close)
        return bus, ear, address

    async def pair(self, *, keyed: bool = True) -> tuple[ZmqTransport, Ear, ZmqTransport, Ear, str]:
        """Anna, who will speak, and Ben, who subscribes to everything."""
        anna, noticed, address = await self.open("anna" if keyed else "")
        ben, ear, _ = await self.open("ben" if keyed else "")
        ben.subscribe(["news/"])
        return anna, noticed, ben, ear, address


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with AsyncExitStack() as stack:
        yield Wire(stack)


async def says(anna: ZmqTransport, noticed: Ear, ear: Ear, what: bytes) -> None:
    """Anna says something once she is subscribed to, and Ben hears that it was she."""
    await noticed.until(lambda: noticed.noticed > 0)
    anna.publish([b"news/", what])
    await ear.until(lambda: ("anna", what) in ear.heard)


@pytest.mark.parametrize("claims", [*itertools.permutations(NAMES, 2), *itertools.permutations(NAMES, 3)])
async def test_whoever_is_there_is_heard_in_whatever_order_others_claim_it(wire: Wire, claims: Sequence[str]) -> None:
    anna, noticed, ben, ear, address = await wire.pair()
    for name in claims:
        ben.connect(address, name)
    if "anna" in claims:
        await says(anna, noticed, ear, b"1")


async def test_who_has_proven_its_key_is_not_disturbed_by_claims_nor_by_their_ends(wire: Wire) -> None:
    anna, noticed, ben, ear, address = await wire.pair()
    ben.connect(address, "anna")
    await says(anna, noticed, ear, b"1")
    hung_up: list[str] = []
    hang_up = ben._links._hang_up
    ben._links._hang_up = lambda address: (hung_up.append(address), hang_up(address))[1]  # type: ignore[method-assign]
    ben.connect(address, "eve")
    ben.disconnect(address, "eve")
    ben.disconnect(address, "nobody")
    anna.publish([b"news/", b"2"])
    await ear.until(lambda: ("anna", b"2") in ear.heard)
    assert not hung_up
    ben.disconnect(address, "anna")
    assert hung_up == [address]


async def test_a_claim_that_came_before_anybody_was_there_is_overcome(wire: Wire) -> None:
    address = f"tcp://127.0.0.1:{next(free_ports())}"
    ben, ear, _ = await wire.open("ben")
    ben.subscribe(["news/"])
    for name in ("anna", "eve"):
        ben.connect(address, name)
    anna, noticed, _ = await wire.open("anna", address)
    await says(anna, noticed, ear, b"1")


async def test_who_comes_after_another_at_its_address_is_heard(wire: Wire) -> None:
    eve, noticed, address = await wire.open("eve", f"tcp://127.0.0.1:{next(free_ports())}")
    ben, ear, _ = await wire.open("ben")
    ben.subscribe(["news/"])
    ben.connect(address, "eve")
    await noticed.until(lambda: noticed.noticed > 0)
    ben.connect(address, "anna")
    await eve.close()
    anna, noticed, _ = await wire.open("anna", address)
    await says(anna, noticed, ear, b"1")


async def test_without_keys_all_at_an_address_share_its_connection_until_the_last_has_gone(wire: Wire) -> None:
    anna, noticed, ben, ear, address = await wire.pair(keyed=False)
    for name in ("", "anna", "eve"):
        ben.connect(address, name)
    await noticed.until(lambda: noticed.noticed > 0)
    ben.disconnect(address, "eve")
    anna.publish([b"news/", b"1"])
    await ear.until(lambda: ear.heard == [("", b"1")])
    ben.disconnect(address, "anna")
    assert not ben._links._claims


async def test_a_key_that_is_not_known_is_not_connected_to(wire: Wire) -> None:
    ben, _, _ = await wire.open("ben")
    for name in ("", "stranger"):
        ben.connect("tcp://127.0.0.1:9", name)
    assert not ben._links._claims


async def test_what_a_relay_forwards_has_no_origin(wire: Wire) -> None:
    ben, _, _ = await wire.open("ben")
    assert ben._curve is not None
    assert [ben._curve.is_member(name) for name in ("anna", "hub")] == [True, False]
