"""Why nobody answers at an address is said at the first look, and once; a node without anybody gives up in time."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodes import join_watch
from nodes.capability import Handler
from nodes.errors import PeersMissing
from nodes.node import Node
from nodes.spec import NodeSpec, Timing
from nodes.transport import probe
from nodes.transport.addresses import needs_ipv6
from nodes.transport.probe import ProbeResult
from nodes.transport.relay import Relay
from nodes.transport.zmq import ZmqTransport
from protocol.messages import Message
from protocol.messages.presence import PeerInfo


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were looked at; the probe finds what `ABOUT` says."""
    asked: list[str] = []

    def found(name: str, address: str, *_rest: object, me: str) -> ProbeResult:
        asked.append(address)
        return ProbeResult("not up", f"nobody listens at {address} yet")

    monkeypatch.setattr(join_watch, "probe", found)
    monkeypatch.setattr(join_watch, "FIRST_LOOK", 0.001)
    monkeypatch.setattr(join_watch, "NEXT_LOOK", 0.001)
    return asked


def spec(*join: str, ready: float = 0.05) -> NodeSpec:
    return NodeSpec("one", "client", "test", "tcp://127.0.0.1:0", join=join, timing=Timing(ready=ready))


def test_what_is_in_the_way_is_said_once_and_given_up_in_time(
    fake_time: Callable[[Coroutine[Any, Any, None]], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    looked: list[str] = []

    async def look(_spec: NodeSpec, endpoint: str) -> str:
        looked.append(endpoint)
        return f"nobody listens at {endpoint} yet"

    monkeypatch.setattr(join_watch, "_look", look)
    with caplog.at_level(logging.WARNING), pytest.raises(PeersMissing, match="nobody listens at tcp://a:1 yet"):
        fake_time(join_watch.watch(spec("tcp://a:1", ready=60), lambda: False))
    assert len(looked) > 1
    assert [record.getMessage() for record in caplog.records] == [
        "tcp://a:1: nobody listens at tcp://a:1 yet; this node gives up after 60 s (`bus.timing.ready`)"
    ]


async def test_who_is_linked_looks_at_nothing(looks: list[str]) -> None:
    await join_watch.watch(spec("tcp://a:1"), lambda: True)
    assert looks == []


def test_all_addresses_are_looked_at_within_five_seconds_and_given_up_in_time(
    fake_time: Callable[[Coroutine[Any, Any, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On fake time, each look taking as long as it may; the end does not wait for another look."""
    said: list[tuple[float, str]] = []
    addresses = tuple(f"tcp://{host}:1" for host in "abc")

    async def look(_spec: NodeSpec, endpoint: str) -> str:
        await asyncio.sleep(join_watch.LOOK_LIMIT)
        return f"nobody listens at {endpoint} yet"

    async def story() -> None:
        now = asyncio.get_running_loop().time

        def warning(_text: str, endpoint: str, *_rest: object) -> None:
            said.append((now() - start, endpoint))

        monkeypatch.setattr(join_watch.log, "warning", warning)
        start = now()
        with pytest.raises(PeersMissing, match=r"not ready after 60 s: tcp://a:1 \(nobody listens"):
            await join_watch.watch(spec(*addresses, ready=60), lambda: False)
        assert now() - start == pytest.approx(60, abs=0.01)

    monkeypatch.setattr(join_watch, "_look", look)
    fake_time(story())
    assert [endpoint for _, endpoint in said] == list(addresses)
    assert max(seconds for seconds, _ in said) < 5


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


ONLY_IPV6 = ("ip6-localhost", "localhost6")
"""Names that many systems give to ::1 alone."""


@pytest.mark.skipif(not ipv6(), reason="needs IPv6")
@pytest.mark.parametrize("host", ["[::1]", *ONLY_IPV6])
async def test_nodes_meet_at_ipv6_and_ipv4_addresses(host: str) -> None:
    if not needs_ipv6(f"tcp://{host}:1"):
        pytest.skip(f"{host} is no host of this machine with IPv6 alone")
    linked = Linked()
    async with Node(NodeSpec("six", "client", "test", f"tcp://{host}:0", insecure=True), ZmqTransport()) as six:
        at = f"tcp://{host}:{six.address.rpartition(':')[2]}"
        four = Node(NodeSpec("four", "client", "test", "tcp://127.0.0.1:0", join=(at,)), ZmqTransport())
        four.add(linked)
        async with four, asyncio.timeout(20):
            await linked.happened.wait()
    assert six.address.startswith("tcp://[::1]:")


async def test_a_peer_of_another_wire_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Node(NodeSpec("other", "client", "test", "tcp://127.0.0.1:0"), ZmqTransport()) as other:
        monkeypatch.setattr(probe, "VERSION", 99)
        with pytest.raises(PeersMissing, match=r"it speaks version \d+ of the wire, and this is 99: install the same"):
            await join_watch.watch(spec(other.address, ready=0.01), lambda: False)


async def test_a_relay_that_is_not_up_is_told_though_a_peer_is_heard(closed_port: int) -> None:
    async with Node(NodeSpec("other", "client", "test", "tcp://127.0.0.1:0"), ZmqTransport()) as other:
        given = replace(spec(other.address, ready=0.01), through=f"tcp://127.0.0.1:{closed_port}")
        with pytest.raises(PeersMissing, match=r"nobody listens at .* the relay must be up for this node to be heard"):
            await join_watch.watch(given, lambda: False)


async def test_a_peer_behind_a_relay_is_looked_for_and_not_this_node_itself(tmp_path: Path) -> None:
    through = f"ipc://{tmp_path}/relay"
    with Relay(through):
        given = replace(spec(through, ready=0.01), through=through)
        async with Node(replace(given, timing=Timing(ready=60)), ZmqTransport()):
            with pytest.raises(PeersMissing, match="no heartbeat"):
                await join_watch.watch(given, lambda: False)
            async with Node(replace(given, name="other", timing=Timing(ready=60)), ZmqTransport()):
                with pytest.raises(PeersMissing, match="it is heard, and has not welcomed"):
                    await join_watch.watch(given, lambda: False)


async def test_who_is_heard_and_has_another_clock_is_told_of_it(
    monkeypatch: pytest.MonkeyPatch, looks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(join_watch, "probe", lambda *_asked, **_me: ProbeResult("heard", "up, and heard", 3600.0))
    with caplog.at_level(logging.WARNING), pytest.raises(PeersMissing):
        await join_watch.watch(spec("tcp://a:1"), lambda: False)
    assert "has not welcomed this node yet; its clock: it is 3600.0 s ahead of the clock here" in caplog.text
