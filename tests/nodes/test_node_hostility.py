"""A member survives whatever it receives, and names who sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from protocol import codec, topics
from protocol.codec import Envelope
from protocol.messages import Goodbye, Heartbeat, Hello, PeerInfo, Prepare, ProgressReport
from protocol.presence import PeerState
from protocol.topics import HEARTBEATS, PRESENCE, PROGRESS, ROUNDS

Tell = Callable[..., Any]

progress_report = partial(ProgressReport, done=0, total=0, values={})


class TestHostility:
    """One node against somebody who keeps no rules; a well-behaved third one shows that it lives on."""

    def survive(self, tell: Tell, attack: Callable[[Node, Any], None], **dropped: int) -> None:
        async def story(cluster: Any) -> None:
            node, ear = await cluster.start("one")
            forger = await cluster.forger().link(node)
            attack(node, forger)
            await asyncio.sleep(1)
            assert {kind: node.counts[kind] for kind in dropped} == dropped
            other, _ = await cluster.start("other", "one")
            await asyncio.sleep(1)
            other.publish(PROGRESS, progress_report(phase="alive"))
            await asyncio.sleep(1)
            assert ear.heard[-1:] == ["alive"]

        tell(story)

    @pytest.mark.parametrize(
        "frames", [[b"to/one/"], [b"to/one/", b""], [b"to/one/", b"\xc1"], [b"to/one/", b"\x90", b"more"]]
    )
    def test_bytes_that_say_nothing_are_dropped_and_counted(self, tell: Tell, frames: list[bytes]) -> None:
        self.survive(tell, lambda _node, forger: forger.bus.publish(frames), malformed=1)

    def test_a_repair_that_holds_nothing_is_dropped(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            inner = [b"progress/", b"rubbish"]
            forger.bus.publish(codec.encode_retransmission(inner, "test", "forger", 1, "to/one/"))

        self.survive(tell, attack, malformed=1)

    def test_another_run_is_ignored(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            forger.run = "other"
            forger.say(PROGRESS, progress_report(phase="x"), number=1)

        self.survive(tell, attack, **{"other run": 1})

    def test_an_echo_of_its_own_words_is_ignored(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            forger.name = "one"
            forger.say(PRESENCE, Goodbye(reason="I?"))

        self.survive(tell, attack)

    def test_who_introduces_itself_as_another_is_refused(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            other = PeerInfo(
                name="x", incarnation=1, role="client", address="memory://x", heartbeat_address="memory://x"
            )
            forger.say(
                "to/one/", Hello(peer=other, receiver_incarnation=node.presence.me.incarnation, members=(), latest={})
            )

        self.survive(tell, attack, malformed=1)

    def test_a_stranger_is_not_listened_to(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            forger.name = "stranger"
            forger.say(PROGRESS, progress_report(phase="x"), number=1)

        self.survive(tell, attack, stranger=1)

    def test_an_earlier_life_is_not_listened_to(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            forger.incarnation = 0
            forger.say(PROGRESS, progress_report(phase="x"), number=1)
            forger.say(PRESENCE, Goodbye(reason="the old one is gone"))

        self.survive(tell, attack, stranger=1)

    def test_a_topic_that_carries_no_such_message_opens_no_book(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            for number in range(10):
                forger.say(f"progress/x{number}/", progress_report(phase="x"), number=1)

        self.survive(tell, attack, malformed=10)

    def test_a_topic_that_is_not_subscribed_to_opens_no_book(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            for number in range(1, 6):
                inner = codec.encode(Envelope(ROUNDS, "test", "forger", 1, number, Prepare(term=1)))
                forger.bus.publish(codec.encode_retransmission(inner, "test", "forger", 1, "to/one/"))

        self.survive(tell, attack, unheard=5)

    def test_huge_numbers_are_bounded_work(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            latest = {PROGRESS: topics.LARGEST, PRESENCE: topics.LARGEST}
            forger.say(HEARTBEATS, Heartbeat(tick=topics.LARGEST, latest=latest))
            forger.say(PROGRESS, progress_report(phase="x"), number=topics.LARGEST)

        self.survive(tell, attack)

    def test_a_resent_within_a_resent_is_bounded(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            frames: Any = forger.say(PROGRESS, progress_report(phase="x"), number=1)
            for _ in range(120):
                frames = codec.encode_retransmission(frames, "test", "forger", 1, "to/one/")
            forger.bus.publish(frames)

        self.survive(tell, attack)

    def test_a_knock_that_is_none_is_dropped(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            for topic in (b"join/", b"join/a/b/c/", b"join/\xff", b"other/"):
                node.subscribed(topic, True)

        self.survive(tell, attack, malformed=3)

    def test_who_breaks_the_rules_again_and_again_is_shut_out_and_named_and_may_come_back(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one")
            await cluster.start("other", "one")
            forger = await cluster.forger().link(one)
            for number in range(10):
                forger.say("to/one/extra/", progress_report(phase="unheard"), number + 1)
            await asyncio.sleep(0.1)
            kind, name, reason = ear.events[-1]
            assert (kind, name) == ("lost", "forger")
            assert reason.startswith("quarantined for 10 s: progress_report is not published under this topic")
            await asyncio.sleep(9)
            assert one.presence.state("forger") is PeerState.LOST
            assert "other" in one.presence.linked()
            await asyncio.sleep(2)
            assert one.presence.state("forger") is PeerState.KNOWN

        tell(story)

    def test_a_crowd_of_far_away_members_does_not_silence_it(self, tell: Tell) -> None:
        """More than fit into the header of one hello, at the longest addresses that there are."""

        async def story(cluster: Any) -> None:
            node, _ = await cluster.start("one")
            forger = await cluster.forger().link(node)
            crowd = []
            for number in range(160):
                address = f"memory://{'x' * 165}{number:03}"
                crowd.append(
                    PeerInfo(
                        name=f"{number:032}", incarnation=1, role="client", address=address, heartbeat_address=address
                    )
                )
            for first in range(0, 160, 40):
                members, receiver = tuple(crowd[first : first + 40]), node.presence.me.incarnation
                forger.say("to/one/", Hello(peer=forger.me, receiver_incarnation=receiver, members=members, latest={}))
            await asyncio.sleep(0.3)
            assert len(node.presence.members()) > 160
            await cluster.start("other", "one")
            await asyncio.sleep(0.3)
            assert node.presence.state("other") is PeerState.LINKED

        tell(story)
