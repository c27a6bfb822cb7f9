"""A join request is what its own node has signed: through a relay, where anybody may subscribe to anything, too.

The memory network lets everybody subscribe to everything, as a relay does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from protocol.security.authentication import MessageAuthenticator
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import JoinRequest

Tell = Callable[..., Any]

KEYS = {name: PrivateKeys.make(name) for name in ("a", "b", "x")}
TRUSTED = [keys.public for keys in KEYS.values()]
LATER = 2**62
"""A later incarnation than that of any node that runs."""


def ring(name: str) -> Keyring:
    return Keyring.of(KEYS[name], TRUSTED)


def join_request(name: str, signer: str = "", **changes: Any) -> JoinRequest:
    """A join request in a name, signed by another or nobody."""
    request = JoinRequest(name, LATER, "test", "memory://elsewhere")
    return replace(signed(signer, request) if signer else request, **changes)


def signed(signer: str, request: JoinRequest) -> JoinRequest:
    return replace(request, signature=MessageAuthenticator(ring(signer), 1).attest(request.statement))


def connected(node: Node) -> set[str]:
    return set(node._bus.connected)  # type: ignore[attr-defined]


INVENTED = {
    "unsigned": (join_request("b"), "tampered"),
    "signed by another": (join_request("b", "x"), "tampered"),
    "another's address": (join_request("b", "b", address="memory://a3"), "tampered"),
    "another incarnation": (join_request("b", "b", incarnation=LATER + 1), "tampered"),
    "another run's": (join_request("b", "b", run="other"), "tampered"),
    "the wrong name": (join_request("x", "b"), "tampered"),
    "a stranger's": (join_request("nobody"), "unknown key"),
}


class TestInvented:
    @pytest.mark.parametrize("what", INVENTED)
    def test_it_leads_to_no_connection_and_ends_none(self, tell: Tell, what: str) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            b, _ = await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            before, (request, kind) = connected(a), INVENTED[what]
            for present in (True, False):
                a.subscribed(request.topic.encode(), present)
            await asyncio.sleep(1)
            assert connected(a) == before
            assert a.counts[kind] == 1, "the end of a request of a life that is not known here is not looked at"
            assert cluster.linked(a, b)
            assert a.faults == {}, "whoever forwards it could have made it"

        tell(story)

    def test_its_end_does_not_shorten_the_time_until_a_peer_is_lost(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            b, _ = await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            forged = join_request("b", incarnation=b.presence.me.incarnation)
            a.subscribed(forged.topic.encode(), False)
            assert not a.presence._peers["b"].broken
            assert a.counts["tampered"] == 1

        tell(story)

    def test_a_flood_costs_its_victim_none_of_its_budget(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            for incarnation in range(3000):
                a.subscribed(join_request("b", incarnation=LATER + incarnation).topic.encode(), True)
            await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            assert list(a.presence.linked()) == ["b"]
            assert a.counts["over budget"] == 0

        tell(story)


class TestRepeated:
    """What a node has signed once, anybody who has seen it may repeat."""

    def test_of_an_earlier_life_it_leads_nowhere(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            b, _ = await cluster.start("b", "a", keys=ring("b"))
            await asyncio.sleep(1)
            old = signed("b", JoinRequest("b", 1, "test", "memory://old"))
            before = connected(a)
            a.subscribed(old.topic.encode(), True)
            assert connected(a) == before
            assert a.counts["earlier life"] == 1
            assert cluster.linked(a, b)

        tell(story)

    def test_often_it_does_not_keep_out_a_node_that_has_restarted(self, tell: Tell) -> None:
        """It takes all of the budget, and the new request waits: what is repeated meanwhile takes nothing."""

        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            requests = [signed("b", JoinRequest("b", LATER + life, "test", f"memory://b{life}")) for life in (0, 1)]
            old, new = (request.topic.encode() for request in requests)
            context = a._membership._context
            a._membership._context = replace(context, charge=partial(a.charge, proven=False))  # as behind a relay
            for _ in range(40):
                a.subscribed(old, True)
            a.subscribed(new, True)
            for _ in range(20):
                a.subscribed(old, True)
                await asyncio.sleep(0.2)
            assert connected(a) == {"memory://b1"}

        tell(story)

    def test_in_another_run_it_is_refused(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            a, _ = await cluster.start("a", keys=ring("a"))
            there = signed("b", JoinRequest("b", LATER, "other", "memory://b"))
            a.subscribed(there.topic.encode(), True)
            assert connected(a) == set()
            assert a.counts["other run"] == 1

        tell(story)


def test_a_visitor_that_does_not_know_the_run_is_let_in(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        a, _ = await cluster.start("a", keys=ring("a"))
        spec = replace(cluster.spec("x", "monitor", join=("a@memory://a",), keys=ring("x")), run="")
        async with Node(spec, cluster.network.bus()) as visitor:
            await asyncio.sleep(1)
            assert visitor.run == "test"
            assert cluster.linked(a, visitor)

    tell(story)


def test_without_keys_it_is_not_signed(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        a, _ = await cluster.start("a")
        b, _ = await cluster.start("b", "a")
        await asyncio.sleep(1)
        assert cluster.linked(a, b)
        assert a._membership.join_request().signature == b""

    tell(story)
