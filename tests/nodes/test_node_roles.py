"""With keys a node hears from each peer what its role may say, and of whoever says more, who it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.node import Node
from protocol import codec
from protocol.messages import Capabilities, ExchangeRequest, Message, QueryRequest, RetransmitRequest, RoundsRequest
from protocol.messages.election import Prepare
from protocol.security.key_roles import RIGHTS, KeyRole, Right
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import EXCHANGE, PRESENCE, QUERIES, ROUNDS

Tell = Callable[..., Any]

VECTORS = Path(__file__).parents[1] / "vectors"

QUERY = QueryRequest(query=1, oldest_open=1, task="score", inputs={}, options={}, ttl=30.0)
EXCHANGE_ORDER = ExchangeRequest(key="k", task="learn", options={})
CARD = Capabilities(text="{}", ready=True)


def plan(file: str) -> RoundsRequest:
    frames = json.loads((VECTORS / f"{file}.json").read_text())["frames"]
    request = codec.decode([bytes.fromhex(frame) for frame in frames]).message
    assert isinstance(request, RoundsRequest)
    return request.model_copy(update={"plan": request.plan.model_copy(update={"requester": "bob"})})


class Site:
    """Hears every conversation of a client."""

    topics = (PRESENCE, QUERIES, ROUNDS, EXCHANGE)

    def __init__(self) -> None:
        self.heard: list[str] = []
        kinds: tuple[type[Message], ...] = (QueryRequest, RoundsRequest, ExchangeRequest, Capabilities)
        self.handlers = dict.fromkeys(kinds, lambda _envelope, message: self.heard.append(message.kind))

    def linked(self, peer: Any) -> None:
        """Nothing to do."""

    def departed(self, peer: Any, reason: str, *, left: bool) -> None:
        """Nothing to do."""


async def met(cluster: Any, as_role: KeyRole, role: KeyRole, *may: Right) -> tuple[Node, Site, Node]:
    """A site, and bob, who takes part in one role and was let in in another."""
    anna, bob = PrivateKeys.make("anna"), PrivateKeys.make("bob")
    granted = bob.public if role == "client" else bob.public.granted(anna, role, may)
    site = Site()
    one = await cluster.enter(Node(cluster.spec("anna", keys=Keyring.of(anna, [granted])), cluster.network.bus()), site)
    spec = cluster.spec("bob", as_role, join=("anna@memory://anna",), keys=Keyring.of(bob, [anna.public]))
    other = await cluster.enter(Node(spec, cluster.network.bus()))
    await asyncio.sleep(1)
    return one, site, other


def say_all(bob: Node) -> None:
    for topic, message in (
        (QUERIES, QUERY), (ROUNDS, plan("rounds-request")), (ROUNDS, plan("rounds-request-given")),
        (EXCHANGE, EXCHANGE_ORDER), (PRESENCE, CARD),
    ):  # fmt: skip
        bob.publish(topic, message)


@pytest.mark.parametrize(
    ("role", "may", "heard"),
    [
        ("client", (), ["query_request", "rounds_request", "rounds_request", "exchange_request", "capabilities"]),
        ("guest", RIGHTS, ["query_request", "rounds_request", "rounds_request", "exchange_request"]),
        ("guest", ("ask",), ["query_request"]),
        ("guest", ("models",), ["rounds_request"]),
        ("guest", ("rounds",), ["rounds_request", "exchange_request"]),
        ("guest", (), []),
        ("monitor", (), []),
    ],
)
def test_a_site_hears_what_a_role_may_say(
    tell: Tell, caplog: pytest.LogCaptureFixture, role: KeyRole, may: tuple[Right, ...], heard: list[str]
) -> None:
    async def story(cluster: Any) -> None:
        anna, site, bob = await met(cluster, "monitor", role, *may)
        assert cluster.linked(anna, bob)
        say_all(bob)
        await asyncio.sleep(20)
        assert site.heard == heard
        assert anna.counts["not permitted"] == 5 - len(heard), "and nothing is requested again"
        assert cluster.linked(anna, bob), "one day's mistakes are no quarantine"

    tell(story)
    if len(heard) < 5:
        assert f"bob, let in as a {role}" in caplog.text


@pytest.mark.parametrize(("role", "may"), [("client", ()), ("guest", RIGHTS), ("guest", ()), ("monitor", ())], ids=str)
def test_nobody_reads_by_retransmission_what_its_role_may_not_hear(
    tell: Tell, role: KeyRole, may: tuple[Right, ...]
) -> None:
    """Questions, rounds and exchanges are for clients, also once more."""

    async def story(cluster: Any) -> None:
        anna, _, bob = await met(cluster, "monitor", role, *may)
        repeated = list[str]()
        read = bob._inbound_filter.read

        def reading(frames: Any, now: float, **how: Any) -> Any:
            heard = read(frames, now, **how)
            repeated.extend([heard.envelope.topic] if how.get("again") and heard is not None else [])
            return heard

        bob._inbound_filter.read = reading  # type: ignore[method-assign]
        said = {QUERIES: QUERY, ROUNDS: Prepare(term=1), EXCHANGE: EXCHANGE_ORDER, PRESENCE: CARD}
        for topic, each in said.items():
            anna.publish(topic, each)
        await asyncio.sleep(1)
        for topic in said:
            bob.tell("anna", RetransmitRequest(topic=topic, incarnation=anna.presence.me.incarnation, first=1, last=9))
        await asyncio.sleep(1)
        assert set(repeated) == ({*said} if role == "client" else {PRESENCE})
        assert anna.faults.get("bob", 0) == (0 if role == "client" else 3)

    tell(story)


@pytest.mark.parametrize(("role", "as_role"), [("guest", "client"), ("monitor", "guest"), ("monitor", "client")])
def test_nobody_is_linked_as_more_than_it_was_let_in_as(
    tell: Tell, caplog: pytest.LogCaptureFixture, role: KeyRole, as_role: KeyRole
) -> None:
    async def story(cluster: Any) -> None:
        anna, _, _ = await met(cluster, as_role, role)
        await asyncio.sleep(5)
        assert anna.presence.linked() == {}
        assert anna.faults["bob"] > 0

    tell(story)
    assert f"may not take part as a {as_role}" in caplog.text


def test_hearsay_makes_nobody_more_than_it_was_let_in_as(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        anna, cleo, bob = PrivateKeys.make("anna"), PrivateKeys.make("cleo"), PrivateKeys.make("bob")
        strict = Keyring.of(anna, [cleo.public, bob.public.granted(anna, "monitor")])
        one = await cluster.enter(Node(cluster.spec("anna", keys=strict), cluster.network.bus()))
        lenient = Keyring.of(cleo, [anna.public, bob.public])
        join = ("anna@memory://anna",)
        two = await cluster.enter(Node(cluster.spec("cleo", join=join, keys=lenient), cluster.network.bus()))
        keys = Keyring.of(bob, [anna.public, cleo.public])
        spec = cluster.spec("bob", "client", join=("cleo@memory://cleo",), keys=keys)
        await cluster.enter(Node(spec, cluster.network.bus()))
        await asyncio.sleep(5)
        assert set(two.presence.linked()) == {"anna", "bob"}
        assert set(one.presence.linked()) == {"cleo"}
        assert one.counts["unproven"] > 0

    tell(story)
