"""A peer whose key is revoked while nodes run departs at once, and reads nothing that is said afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from nodes.node import Node
from nodes.transport.memory import Faults
from protocol.errors import AuthenticationError
from protocol.messages import ProgressReport, QueryRefusal
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import PROGRESS
from tests.cases import first

Tell = Callable[..., Any]

NAMES = ("a", "b", "eve")
KEYS = {name: PrivateKeys.make(name) for name in NAMES}
ALL = [keys.public for keys in KEYS.values()]
WITHOUT_EVE = [keys.public for name, keys in KEYS.items() if name != "eve"]

progress_report = partial(ProgressReport, done=0, total=0, values={})


def ring(name: str, others: list[Any] = ALL) -> Keyring:
    return Keyring.of(KEYS[name], others)


async def met(cluster: Any) -> dict[str, tuple[Node, Any]]:
    nodes = {name: await cluster.start(name, *(["a"] if name != "a" else []), keys=ring(name)) for name in NAMES}
    for _ in range(600):
        await asyncio.sleep(0.1)
        if cluster.linked(*(node for node, _ in nodes.values())):
            return nodes
    pytest.fail("they did not link")


def revoke(node: Node, *, name: str = "eve") -> None:
    others = [public for public in ALL if public.name != name]
    node._membership.trust(ring(node.name), ring(node.name, others))


def reads(listener: Node, speaker: Node) -> bool:
    """Whether a node holds the key under which another now speaks to all."""
    security, own = speaker._security, listener._security
    assert isinstance(security, KeyedSecurity)
    assert isinstance(own, KeyedSecurity)
    try:
        own._group_cipher.decrypt(security.encrypt([PROGRESS.encode(), b"header", b"signature"]))
    except AuthenticationError:
        return False
    return True


@pytest.mark.parametrize("seed", first(2, range(4)))
def test_who_is_revoked_departs_and_reads_nothing_more(tell: Tell, seed: int) -> None:
    async def story(cluster: Any) -> None:
        nodes = await met(cluster)
        (a, _), (b, told), (eve, ear) = (nodes[name] for name in NAMES)
        a.publish(PROGRESS, progress_report(phase="before"))
        await asyncio.sleep(5)
        assert reads(eve, a)
        revoke(a)
        a.publish(PROGRESS, progress_report(phase="after"))
        assert not reads(eve, a)
        assert set(a.presence.linked()) == {"b"}
        await asyncio.sleep(30)
        assert "after" not in ear.heard
        assert told.heard == ["before", "after"]
        assert reads(b, a)
        assert not reads(eve, a)
        assert set(a.presence.linked()) == {"b"}, "not by hearsay either"

    tell(story, Faults(delay=(0.0, 0.3), drop=0.1), seed)


def test_nothing_that_it_says_counts_and_nothing_is_said_to_it(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        nodes = await met(cluster)
        (a, heard), _, (eve, ear) = (nodes[name] for name in NAMES)
        revoke(a)
        assert heard.events[-1] == ("lost", "eve", "its keys were revoked")
        a._bus.connect("memory://eve")  # as through a relay that goes on forwarding it
        eve.publish(PROGRESS, progress_report(phase="still here"))
        a.tell("eve", QueryRefusal(query=1, reason="an answer that was being computed"))
        await asyncio.sleep(30)
        assert "still here" not in heard.heard
        assert a.counts["unknown key"] > 0
        assert heard.events[-1] == ("lost", "eve", "its keys were revoked")
        assert ear.heard == []

    tell(story)


def test_whoever_is_trusted_again_comes_back(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        nodes = await met(cluster)
        (a, heard), _, (eve, ear) = (nodes[name] for name in NAMES)
        revoke(a)
        a.publish(PROGRESS, progress_report(phase="meanwhile"))
        await asyncio.sleep(5)
        a._membership.trust(ring("a", WITHOUT_EVE), ring("a"))
        eve._bus.disconnect("memory://a")
        eve._bus.connect("memory://a", "a")
        await asyncio.sleep(20)
        assert set(a.presence.linked()) == {"b", "eve"}
        a.publish(PROGRESS, progress_report(phase="again"))
        eve.publish(PROGRESS, progress_report(phase="back"))
        await asyncio.sleep(5)
        assert ear.heard[-1] == "again"
        assert "back" in heard.heard

    tell(story)


def test_another_role_takes_effect_at_once(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        nodes = await met(cluster)
        (a, _), (b, _), _ = (nodes[name] for name in NAMES)
        as_monitor = KEYS["eve"].public.granted(KEYS["a"], "monitor")
        a._membership.trust(ring("a"), ring("a", [KEYS["b"].public, as_monitor]))
        await asyncio.sleep(10)
        assert set(a.presence.linked()) == {"b"}, "it says that it is a client"
        assert set(b.presence.linked()) == {"a", "eve"}

    tell(story)


def test_the_last_day_of_a_key_ends_while_nodes_run(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    today = [date(2027, 1, 31)]
    clock = SimpleNamespace(now=lambda _zone: SimpleNamespace(date=lambda: today[0]))
    monkeypatch.setattr("nodes.trust_watch.datetime", clock)
    monkeypatch.setattr("nodes.membership.datetime", clock)

    async def story(cluster: Any) -> None:
        a, heard = await cluster.start(
            "a", keys=ring("a", [KEYS["b"].public, KEYS["eve"].public.granted(KEYS["a"], "client", (), today[0])])
        )
        await cluster.start("b", "a", keys=ring("b"))
        await cluster.start("eve", "a", keys=ring("eve"))
        await asyncio.sleep(5)
        assert set(a.presence.linked()) == {"b", "eve"}
        today[0] = date(2027, 2, 1)
        await asyncio.sleep(2)
        assert set(a.presence.linked()) == {"b"}
        assert heard.events[-1] == ("lost", "eve", "its keys were trusted until 2027-01-31")

    tell(story)
