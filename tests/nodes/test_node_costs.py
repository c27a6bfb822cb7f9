"""What a trusted peer may cost a node, and what it may read of what others were told; the same over all its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from protocol import topics
from protocol.messages import Capabilities, ProgressReport, QueryRefusal, QueryRequest
from protocol.messages.progress import QUARANTINE
from protocol.messages.retransmission import RetransmitRequest
from protocol.security.authentication import MessageAuthenticator
from protocol.security.budget import ALLOWANCES, Cost
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys

Tell = Callable[..., Any]

KEYS = {name: PrivateKeys.make(name) for name in ("a", "b", "c", "x")}
TRUSTED = [keys.public for keys in KEYS.values()]

progress_report = partial(ProgressReport, done=0, total=0, values={})


def ring(name: str) -> Keyring:
    return Keyring.of(KEYS[name], TRUSTED)


def join_request(name: str, incarnation: int) -> bytes:
    """A join request that its node has signed."""
    unsigned = topics.JoinRequest(name, incarnation, "test", f"memory://{name}")
    signature = MessageAuthenticator(ring(name), incarnation).attest(unsigned.statement)
    return replace(unsigned, signature=signature).topic.encode()


def epoch(node: Node) -> int:
    assert isinstance(node._security, KeyedSecurity)
    return node._security._group_cipher._epoch


def spy(node: Node) -> list[str]:
    """The topics of what is repeated to a node from now on."""
    read, repeated = node._inbound_filter.read, list[str]()

    def reading(frames: Any, now: float, **how: Any) -> Any:
        heard = read(frames, now, **how)
        if how.get("again") and heard is not None:
            repeated.append(heard.envelope.topic)
        return heard

    node._inbound_filter.read = reading  # type: ignore[method-assign]
    return repeated


class TestRetransmission:
    """Nobody reads by it what was said to others, or before it came."""

    def test_a_member_that_asks_for_everything_gets_what_it_missed_itself(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            said = {
                topics.QUERIES: QueryRequest(query=1, oldest_open=0, task="t", inputs={}, options={}, ttl=1.0),
                topics.PRESENCE: Capabilities(text="{}", ready=True),
                topics.PROGRESS: progress_report(phase="p"),
                topics.inbox("b"): QueryRefusal(query=1, reason="private"),
            }
            for topic, message in said.items():
                a.publish(topic, message)
            x, _ = await cluster.start("x", "a", keys=ring("x"), role="monitor")
            await asyncio.sleep(1)
            assert x.presence.linked()
            repeated = spy(x)
            a.publish(topics.PROGRESS, progress_report(phase="since"))
            latest, life = dict(a._publisher.outbox.latest), a.presence.me.incarnation
            for topic, last in latest.items():
                x.tell("a", RetransmitRequest(topic=topic, incarnation=life, first=1, last=last))
            await asyncio.sleep(1)
            own = latest[topics.inbox("x")]
            assert sorted(repeated) == [topics.PROGRESS, *[topics.inbox("x")] * own]
            assert a.counts["eavesdropping"] == a.faults["x"] == 1

        tell(story)


class TestJoinRequests:
    """Each may begin an epoch: beyond a peer's budget they wait, and who goes on is quarantined."""

    def test_a_flood_costs_few_epochs_and_no_other_member_anything(
        self, tell: Tell, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            b, ear = await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            before = epoch(a)
            for incarnation in range(10**17, 10**17 + 1000):
                a.subscribed(join_request("x", incarnation), True)
            await asyncio.sleep(5)
            assert epoch(a) - before <= ALLOWANCES[Cost.JOIN_REQUESTS].burst
            assert cluster.linked(a, b)
            assert "x is quarantined" in caplog.text
            assert ear.heard == [QUARANTINE], "whoever listens is told, once"
            assert "x is beyond its budget of join requests" in caplog.text

        tell(story)

    def test_its_owners_connection_pays_before_a_signature_is_verified(
        self, tell: Tell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            verified = list[str]()
            attested = a._security.attested

            def counting(name: str, statement: bytes, signature: bytes) -> bool:
                verified.append(name)
                return attested(name, statement, signature)

            monkeypatch.setattr(a._security, "attested", counting)
            for incarnation in range(10**17, 10**17 + 1000):
                a.subscribed(join_request("x", incarnation), True, "x")
            assert len(verified) == ALLOWANCES[Cost.JOIN_REQUESTS].burst
            assert a.faults["x"] > 0

        tell(story)

    def test_who_restarts_often_is_let_in_every_time(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            for _ in range(40):
                async with Node(cluster.spec("b", join=("a@memory://a",), keys=ring("b")), cluster.network.bus()) as b:
                    await asyncio.sleep(2)
                    assert cluster.linked(a, b)
            assert not a.faults

        tell(story)


class TestTransports:
    """What a transport, or a relay that lies, can cause is nobody's fault."""

    def test_a_broadcast_where_it_was_not_subscribed_to_is_dropped_and_counted(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            b, _ = await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            a._bus.subscribe([topics.QUERIES])  # as if the relay delivered it nevertheless
            for number in range(100):
                b.publish(
                    topics.QUERIES,
                    QueryRequest(query=number, oldest_open=0, task="t", inputs={}, options={}, ttl=1.0),
                )
            await asyncio.sleep(1)
            assert a.counts["unheard"] == 100
            assert (dict(a.faults), cluster.linked(a, b)) == ({}, True)

        tell(story)
