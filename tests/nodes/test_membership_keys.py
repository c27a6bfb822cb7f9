"""Whoever is linked can decrypt what is said to all: over all orders of arrival, restart and loss."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from nodes.transport.memory import Faults
from protocol.errors import AuthenticationError
from protocol.messages import ProgressReport
from protocol.messages.presence import Welcome
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import PROGRESS, inbox
from tests.cases import first

Tell = Callable[..., Any]

NAMES = ("a", "b", "c", "d", "e", "f")
KEYS = {name: PrivateKeys.make(name) for name in NAMES}
TRUSTED = [keys.public for keys in KEYS.values()]

progress_report = partial(ProgressReport, done=0, total=0, values={})


def ring(name: str) -> Keyring:
    return Keyring.of(KEYS[name], TRUSTED)


def decrypts(listener: Node, speaker: Node) -> bool:
    """Whether one node holds the key under which another now speaks to all."""
    security, own = speaker._security, listener._security
    assert isinstance(security, KeyedSecurity)
    assert isinstance(own, KeyedSecurity)
    try:
        own._group_cipher.decrypt(security.encrypt([PROGRESS.encode(), b"header", b"signature"]))
    except AuthenticationError:
        return False
    return True


def shut_out(nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """The pairs (listener, speaker) of which the listener has linked the speaker and cannot decrypt what it says."""
    return [
        (listener.name, speaker.name)
        for listener, speaker in itertools.permutations(nodes, 2)
        if listener.presence.linked().get(speaker.name) == speaker.presence.me and not decrypts(listener, speaker)
    ]


async def settled(nodes: Sequence[Node], seconds: float) -> None:
    """Waits until all are linked, at most for this long, and then for a while for what is still on its way."""
    for _ in range(round(10 * seconds)):
        await asyncio.sleep(0.1)
        if all(len(node.presence.linked()) == len(nodes) - 1 for node in nodes):
            break
    else:
        pytest.fail(f"not all are linked after {seconds} s")
    await asyncio.sleep(2)


class TestLinked:
    @pytest.mark.parametrize("seed", first(3, range(12)))
    def test_in_any_order_of_arrival(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            nodes = [(await cluster.start(name, *NAMES[:1], keys=ring(name)))[0] for name in NAMES]
            await settled(nodes, 30)
            assert shut_out(nodes) == []

        tell(story, Faults(delay=(0.0, 0.3)), seed)

    @pytest.mark.parametrize("seed", first(2, range(6)))
    def test_whatever_is_lost(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            nodes = [(await cluster.start(name, *NAMES[:1], keys=ring(name)))[0] for name in NAMES[:4]]
            await settled(nodes, 60)
            await asyncio.sleep(10)
            assert shut_out(nodes) == []

        tell(story, Faults(drop=0.3, duplicate=0.1, delay=(0.0, 0.3)), seed)

    @pytest.mark.parametrize("seed", first(2, range(6)))
    def test_whoever_restarts(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            stay = [(await cluster.start(name, *NAMES[:1], keys=ring(name)))[0] for name in NAMES[:3]]
            spec = cluster.spec("d", join=("a@memory://a",), keys=ring("d"))
            for life in range(3):
                bus = cluster.network.bus()
                async with Node(spec, bus) as guest:
                    await settled([*stay, guest], 30)
                    assert shut_out([*stay, guest]) == []
                    if life == seed % 2:
                        bus.crash()
            back, _ = await cluster.start("d", "a", keys=ring("d"))
            await settled([*stay, back], 30)
            assert shut_out([*stay, back]) == []

        tell(story, Faults(delay=(0.0, 0.2)), seed)

    def test_a_peer_that_has_linked_first_is_given_the_key_of_a_new_epoch(self, tell: Tell) -> None:
        """Its welcomes are lost, so that only one of the two is linked when a third comes, and an epoch begins."""

        async def story(cluster: Any) -> None:
            one, _ = await cluster.start("a", keys=ring("a"))
            other, _ = await cluster.start("b", keys=ring("b"))
            say = other._publisher.publish
            other._publisher.publish = lambda topic, message: isinstance(message, Welcome) or say(topic, message)
            other._bus.connect("memory://a", "a")
            await asyncio.sleep(1.5)
            assert (list(one.presence.linked()), list(other.presence.linked())) == ([], ["a"])
            await cluster.start("c", "a", keys=ring("c"))
            for _ in range(400):
                await asyncio.sleep(0.0025)
                assert shut_out([one, other]) == []

        tell(story)

    def test_a_grant_that_is_no_longer_kept_is_given_again(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, _ = await cluster.start("a", keys=ring("a"))
            other, ear = await cluster.start("b", "a", keys=ring("b"))
            await settled([one, other], 10)
            cluster.network.faults = Faults(drop=1.0)
            one._membership._renew()
            one._publisher.outbox.forget(PROGRESS)
            one._publisher.outbox._kept.clear()
            cluster.network.faults = Faults()
            await asyncio.sleep(6)
            assert shut_out([one, other]) == []
            early = other.counts["early"]
            one.publish(PROGRESS, progress_report(phase="heard"))
            await asyncio.sleep(1)
            assert (ear.heard, other.counts["early"]) == (["heard"], early)

        tell(story)

    def test_the_next_life_of_a_peer_goes_on_with_the_numbers_that_it_was_given(self, tell: Tell) -> None:
        """A goodbye that is overtaken by the join request of the next life does not begin its inbox anew."""

        async def story(cluster: Any) -> None:
            one, _ = await cluster.start("a", keys=ring("a"))
            other, _ = await cluster.start("b", "a", keys=ring("b"))
            await settled([one, other], 10)
            before = one._publisher.latest(["b"])[inbox("b")]
            old = other.presence.me.incarnation
            one._membership._follow(one.presence.join_request("b", old + 1, "memory://b", 10.0))
            one._membership._follow(one.presence.goodbye("b", old, "stopped"))
            assert one._publisher.latest(["b"])[inbox("b")] > before

        tell(story)
