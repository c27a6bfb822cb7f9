"""With keys, too, what is answered to a join request at once reaches the inbox beside it: all is granted first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from nodes.transport.zmq import ZmqTransport
from protocol.security.budget import Cost
from protocol.security.keys import Keyring, PrivateKeys

PATIENCE = 20.0
KEYS = [PrivateKeys.make(name) for name in ("anna", "ben")]


class Greeter:
    """Answers every join request with a hello, and remembers the first message that it hears."""

    def __init__(self, keys: PrivateKeys) -> None:
        self.bus = ZmqTransport(keys=Keyring.of(keys, [each.public for each in KEYS]))
        self.heard: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    def received(self, frames: Sequence[Any], origin: str = "") -> None:
        if not self.heard.done():
            self.heard.set_result([bytes(frame) for frame in frames])

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return True

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        if topic.startswith(b"join/") and present:
            self.bus.publish([b"to/ben/", b"hello"])

    def refused(self, kind: str, why: str) -> None:
        """Nothing is refused in these tests."""


async def test_the_first_hello_is_heard() -> None:
    async with AsyncExitStack() as stack:
        anna, ben = map(Greeter, KEYS)
        addresses = [await each.bus.open("tcp://127.0.0.1:0", each) for each in (anna, ben)]
        for each in (anna, ben):
            stack.push_async_callback(each.bus.close)
        ben.bus.subscribe(["presence/", "to/ben/", "join/ben/1/tcp://h:1/"])
        ben.bus.connect(addresses[0][0], "anna")
        async with asyncio.timeout(PATIENCE):
            assert await ben.heard == [b"to/ben/", b"hello"]
