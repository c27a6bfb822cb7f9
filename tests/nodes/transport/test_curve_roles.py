"""What a role may hear, at the socket that grants subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from nodes.transport.zmq import ZmqTransport
from protocol.security.budget import Cost
from protocol.security.key_roles import KeyRole
from protocol.security.keys import Keyring, PrivateKeys

ANNA = PrivateKeys.make("anna")
TOPICS = ["queries/", "rounds/", "exchange/", "presence/", "to/mona/", "progress/"]


class Ear:
    """Who subscribed here, and who was turned away."""

    def __init__(self) -> None:
        self.noticed: set[str] = set()
        self.turned_away: list[tuple[str, str]] = []
        self.complete = asyncio.Event()

    def received(self, frames: Sequence[Any], origin: str = "") -> None:
        """Nothing is said."""

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return True

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        self.noticed |= {topic.decode()} if present else set()
        self._look()

    def refused(self, kind: str, why: str) -> None:
        self.turned_away.append((kind, why))
        self._look()

    def _look(self) -> None:
        if len(self.noticed) + len(self.turned_away) == len(TOPICS):
            self.complete.set()


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        ("monitor", {"queries/", "rounds/", "exchange/"}),
        ("guest", {"queries/", "rounds/", "exchange/"}),
        ("client", set()),
    ],
)  # fmt: skip
async def test_queries_rounds_and_exchanges_are_for_clients(role: KeyRole, refused: set[str]) -> None:
    mona, ear = PrivateKeys.make("mona", role), Ear()
    one = ZmqTransport(keys=Keyring.of(ANNA, [mona.public]))
    other = ZmqTransport(keys=Keyring.of(mona, [ANNA.public]))
    try:
        address, _ = await one.open("tcp://127.0.0.1:0", ear)
        await other.open("tcp://127.0.0.1:0", Ear())
        other.subscribe(TOPICS)
        other.connect(address, "anna")
        async with asyncio.timeout(20):
            await ear.complete.wait()
        assert ear.noticed == set(TOPICS) - refused
        said = {("eavesdropping", f"mona wants to hear {topic.encode()!r}, which is not for it") for topic in refused}
        assert set(ear.turned_away) == said
    finally:
        await one.close()
        await other.close()
