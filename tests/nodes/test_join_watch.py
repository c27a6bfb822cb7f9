"""Why nobody answers at an address is said at the first look, and once; a node without anybody gives up in time."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Mapping

import pytest

from nodes import join_watch
from nodes.capability import Handler
from nodes.errors import PeersMissing
from nodes.node import Node
from nodes.spec import NodeSpec, Timing
from nodes.transport.probe import ProbeResult
from nodes.transport.zmq import ZmqTransport
from protocol.messages import Message
from protocol.messages.presence import PeerInfo


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were looked at; the probe finds what `ABOUT` says."""
    asked: list[str] = []

    def found(name: str, address: str, *_rest: object) -> ProbeResult:
        asked.append(address)
        return ProbeResult("not up", f"nobody listens at {address} yet")

    monkeypatch.setattr(join_watch, "probe", found)
    monkeypatch.setattr(join_watch, "FIRST_LOOK", 0.001)
    monkeypatch.setattr(join_watch, "NEXT_LOOK", 0.001)
    return asked


def spec(*join: str, ready: float = 0.05) -> NodeSpec:
    return NodeSpec("one", "client", "test", "tcp://127.0.0.1:0", join=join, timing=Timing(ready=ready))


async def test_what_is_in_the_way_is_said_once_and_given_up_in_time(
    looks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(PeersMissing, match="nobody listens at tcp://a:1 yet"):
        await join_watch.watch(spec("tcp://a:1"), lambda: False)
    assert len(looks) > 1
    assert [record.getMessage() for record in caplog.records] == ["tcp://a:1: nobody listens at tcp://a:1 yet"]


async def test_who_is_linked_looks_at_nothing(looks: list[str]) -> None:
    await join_watch.watch(spec("tcp://a:1"), lambda: True)
    assert looks == []


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, held while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1] - 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://no-such-host.invalid:7400", "cannot be resolved"),
        ("tcp://127.0.0.1:{port}", "nobody listens"),
    ],
)
async def test_a_node_ends_with_what_was_in_the_way(address: str, said: str, closed_port: int) -> None:
    given = spec(address.format(port=closed_port), ready=0.01)
    with pytest.raises(PeersMissing, match=said):
        async with Node(given, ZmqTransport()):
            await asyncio.Event().wait()


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Linked:
    """A capability that knows when it is linked with somebody."""

    topics: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.handlers: Mapping[type[Message], Handler] = {}
        self.happened = asyncio.Event()

    def linked(self, peer: PeerInfo) -> None:
        self.happened.set()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""


@pytest.mark.skipif(not ipv6(), reason="needs IPv6")
async def test_nodes_meet_at_ipv6_and_ipv4_addresses() -> None:
    linked = Linked()
    async with Node(NodeSpec("six", "client", "test", "tcp://[::1]:0"), ZmqTransport()) as six:
        four = Node(NodeSpec("four", "client", "test", "tcp://127.0.0.1:0", join=(six.address,)), ZmqTransport())
        four.add(linked)
        async with four, asyncio.timeout(20):
            await linked.happened.wait()
    assert six.address.startswith("tcp://[::1]:")
