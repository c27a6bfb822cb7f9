"""The connections of others: few from one address, none of the reserve, and each at the expense of whose key it has."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from nodes.transport import connections
from nodes.transport.connections import Connection, ConnectionGuard, connection_limit, raise_descriptor_limit, settle
from protocol.security.budget import ALLOWANCES, Allowance, Cost

PATIENCE = 20.0


class Guarded:
    """A socket that binds, its guard, and what that reported."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.refused: list[str] = []
        self.closed: list[Connection] = []
        self.charged: list[tuple[str, Cost, float]] = []
        self.most = dict.fromkeys(Cost, 1e9)
        self.guard = ConnectionGuard([self.socket], lambda _kind, why: self.refused.append(why), self.closed.append)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def charge(self, name: str, cost: Cost, amount: float = 1.0) -> bool:
        self.charged.append((name, cost, amount))
        self.most[cost] -= amount
        return self.most[cost] >= 0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port))

    def subscriber(self, *topics: str) -> zmq.Socket[bytes]:
        ear = self.context.socket(zmq.SUB)
        ear.connect(f"tcp://127.0.0.1:{self.port}")
        for topic in topics:
            ear.subscribe(topic)
        return ear

    def command(self) -> zmq.Frame:
        assert self.socket.poll(int(1000 * PATIENCE))
        return self.socket.recv(copy=False)


@pytest.fixture
def place() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.socket.close(linger=0)
    made.context.term()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what happens in a thread wakes nobody here
            await asyncio.sleep(0.01)


async def at_its_end(connection: socket.socket) -> None:
    """Waits until the other side has ended a connection: ZeroMQ's greeting comes, and then the end."""
    connection.settimeout(PATIENCE)
    while await asyncio.to_thread(connection.recv, 100):
        pass


async def test_an_address_has_only_so_many_and_gets_them_back_as_they_end(monkeypatch: Any) -> None:
    monkeypatch.setattr(connections, "ALLOWANCES", {**ALLOWANCES, Cost.DESCRIPTORS: Allowance(0, 3)})
    place = Guarded()
    kept = [place.connect() for _ in range(3)]
    await until(lambda: len(place.guard.connections) == 3)
    with place.connect() as beyond:
        await until(lambda: bool(place.refused))
        await at_its_end(beyond)
    assert place.refused == ["127.0.0.1 has as many connections as one address may have"]
    await until(lambda: len(place.guard.connections) == 3)
    kept.pop().close()
    await until(lambda: len(place.guard.connections) == 2)
    kept.append(place.connect())
    await until(lambda: len(place.guard.connections) == 3)
    assert len(place.refused) == 1
    for each in kept:
        each.close()
    place.socket.close(linger=0)
    place.context.term()


async def test_a_flood_is_ended_and_told_of_a_bounded_number_of_times(monkeypatch: Any) -> None:
    allowed = {**ALLOWANCES, Cost.ACCEPTED: Allowance(0, 5)}
    monkeypatch.setattr(connections, "ALLOWANCES", allowed)
    monkeypatch.setattr(connections, "TOLD", Allowance(0, 2))
    place = Guarded()
    flood = [place.connect() for _ in range(200)]
    for each in flood[5:]:
        await at_its_end(each)
    await until(lambda: len(place.guard.connections) == 5)
    assert len(place.refused) == 2
    assert "connects more often than" in place.refused[0]
    for each in flood:
        each.close()
    place.socket.close(linger=0)
    place.context.term()


async def test_the_reserve_is_nobodys(monkeypatch: Any) -> None:
    monkeypatch.setattr(connections, "connection_limit", lambda _descriptors: 4)
    place = Guarded()
    with place.connect():
        await until(lambda: bool(place.refused))
    assert place.refused == ["a connection from 127.0.0.1: only the reserve of descriptors is left"]
    await until(lambda: not place.guard.connections)
    place.socket.close(linger=0)
    place.context.term()


async def test_who_says_nothing_is_disconnected(place: Guarded, monkeypatch: Any) -> None:
    assert place.socket.getsockopt(zmq.HANDSHAKE_IVL) == connections.HANDSHAKE_MS
    monkeypatch.setattr(connections, "HANDSHAKE_MS", 50)
    other = Guarded()
    with other.connect() as idle:
        await at_its_end(idle)
    await until(lambda: not other.guard.connections)
    other.socket.close(linger=0)
    other.context.term()


async def test_the_owner_of_a_key_pays_for_its_connection_and_every_command(place: Guarded) -> None:
    ear = place.subscriber("a/", "b/")
    await until(lambda: bool(place.guard.connections))
    assert all(place.guard.pays(place.command(), "anna", place.charge) for _ in range(2))
    assert place.charged == [
        ("anna", Cost.CONNECTIONS, 1), ("anna", Cost.SUBSCRIPTIONS, 1), ("anna", Cost.SUBSCRIPTIONS, 1),
    ]  # fmt: skip
    ear.close(linger=0)
    await until(lambda: bool(place.closed))
    settle(place.closed[0], place.charge)
    assert place.charged[3:] == [("anna", Cost.CONNECTIONS, -1), ("anna", Cost.SUBSCRIPTIONS, -2)]


@pytest.mark.parametrize(("cost", "paid"), [(Cost.CONNECTIONS, 0), (Cost.SUBSCRIPTIONS, 1)])
async def test_who_cannot_pay_is_disconnected_and_owes_nothing(place: Guarded, cost: Cost, paid: int) -> None:
    place.most[cost] = paid
    ear = place.subscriber("a/", "b/")
    await until(lambda: bool(place.guard.connections))
    (connection,) = place.guard.connections.values()
    results = [place.guard.pays(place.command(), "anna", place.charge) for _ in range(1 + paid)]
    assert results == [True] * paid + [False]
    await until(lambda: connection not in place.guard.connections.values() and len(place.closed) >= paid)
    place.charged.clear()
    for each in place.closed[:1]:
        settle(each, place.charge)
    assert place.charged == ([("anna", Cost.CONNECTIONS, -1), ("anna", Cost.SUBSCRIPTIONS, -1)] if paid else [])
    ear.close(linger=0)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("10.0.0.1", 5000), "10.0.0.1"),
        (("2001:db8:1:2:3::4", 5000, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::/64"),
        ("", "this machine"),
        (None, "this machine"),
    ],
)
def test_whoever_can_have_many_addresses_is_one(peer: object, address: str) -> None:
    assert Connection(3, peer).address == address


def test_the_soft_limit_is_raised_and_a_part_is_kept() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
        limit = raise_descriptor_limit()
        assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0] // 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert list(map(connection_limit, (200, 1024, 65536))) == [150, 768, 65280]


def test_another_connection_that_has_taken_the_number_is_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other:
        Connection(one.fileno(), ("10.0.0.1", 5000)).end()
        Connection(10**6, None).end()
        other.send(b"still")
        assert one.recv(9) == b"still"
