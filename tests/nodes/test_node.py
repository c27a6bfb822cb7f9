"""A member of a run: it finds the others, misses nothing that it was promised, and survives whatever it hears."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from nodes.errors import NodeError
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.memory import Faults, MemoryNetwork, MemoryTransport
from protocol import codec, topics
from protocol.codec import Envelope
from protocol.messages import (
    Capabilities,
    Goodbye,
    Heartbeat,
    Hello,
    PeerInfo,
    ProgressReport,
    RetransmitRequest,
    RetransmitUnavailable,
    Welcome,
)
from protocol.presence import PeerState
from protocol.security.authentication import NullSecurity
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import HEARTBEATS, PRESENCE, PROGRESS

Tell = Callable[..., Any]


class Ear:
    """A capability that remembers the cards and the progress it hears, and who came and went."""

    topics: tuple[str, ...] = (PROGRESS,)

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.events: list[tuple[str, ...]] = []
        self.handlers: Mapping[Any, Any] = {ProgressReport: self._progress, Capabilities: self._card}

    def _progress(self, envelope: Envelope, progress: ProgressReport) -> None:
        self.heard.append(progress.phase)

    def _card(self, envelope: Envelope, card: Capabilities) -> None:
        self.heard.append(card.text)

    def linked(self, peer: PeerInfo) -> None:
        self.events.append(("linked", peer.name))

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        self.events.append(("left" if left else "lost", peer.name, reason))


def progress(phase: str) -> ProgressReport:
    return ProgressReport(phase=phase, done=0, total=0, values={})


async def start(cluster: Any, name: str, *join: str, **changes: Any) -> tuple[Node, Ear]:
    ear = Ear()
    spec = cluster.spec(name, join=tuple(f"{other}@memory://{other}" for other in join), **changes)
    return await cluster.enter(Node(spec, cluster.network.bus()), ear), ear


def linked(*nodes: Node) -> bool:
    return all(len(node.presence.linked()) == len(nodes) - 1 for node in nodes)


class TestMembership:
    @pytest.mark.parametrize("count", [2, 5, 10])
    @pytest.mark.parametrize("shape", ["star", "chain"])
    def test_one_address_leads_to_everybody(self, tell: Tell, count: int, shape: str) -> None:
        async def story(cluster: Any) -> None:
            nodes = [(await start(cluster, "n0"))[0]]
            for index in range(1, count):
                through = "n0" if shape == "star" else f"n{index - 1}"
                nodes.append((await start(cluster, f"n{index}", through))[0])
            await asyncio.sleep(1)
            assert linked(*nodes)

        tell(story)

    def test_the_door_may_open_later_than_the_knock(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            early, _ = await start(cluster, "early", "late")
            await asyncio.sleep(30)
            late, _ = await start(cluster, "late")
            await asyncio.sleep(1)
            assert linked(early, late)

        tell(story)

    @pytest.mark.parametrize("seed", range(4))
    def test_loss_and_disorder_only_slow_it_down(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            nodes = [(await start(cluster, f"n{index}", "n0"))[0] for index in range(5)]
            for _ in range(200):
                await asyncio.sleep(0.1)
                if linked(*nodes):
                    return
            pytest.fail(f"not linked after 20 s: {[list(node.presence.linked()) for node in nodes]}")

        tell(story, Faults(drop=0.3, duplicate=0.1, delay=(0.0, 0.4), heartbeats_too=True), seed)

    def test_each_is_told_once_of_each_other(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            ears = [(await start(cluster, f"n{index}", "n0"))[1] for index in range(4)]
            await asyncio.sleep(10)
            for index, ear in enumerate(ears):
                assert sorted(ear.events) == [("linked", f"n{other}") for other in range(4) if other != index]

        tell(story, Faults(duplicate=0.5, delay=(0.0, 0.2)))


class TestLosses:
    def test_a_cut_is_a_loss_after_the_silence_and_heals_by_itself(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one")
            other, _ = await start(cluster, "other", "one")
            await asyncio.sleep(1)
            cluster.network.cut(one.address, other.address)
            await asyncio.sleep(2.7)
            assert linked(one, other)
            await asyncio.sleep(0.4)
            assert one.presence.state("other") is other.presence.state("one") is PeerState.LOST
            cluster.network.heal(one.address, other.address)
            await asyncio.sleep(1)
            assert linked(one, other)
            assert [event[:2] for event in ear.events] == [("linked", "other"), ("lost", "other"), ("linked", "other")]

        tell(story)

    def test_a_crash_is_a_loss_within_a_second(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            _, ear = await start(cluster, "one")
            other, _ = await start(cluster, "other", "one")
            await asyncio.sleep(1)
            other._bus.crash()  # type: ignore[attr-defined]
            await asyncio.sleep(0.9)
            ((kind, name, reason),) = ear.events[1:]
            assert (kind, name) == ("lost", "other")
            assert reason.startswith("its connection broke")

        tell(story)

    def test_a_cut_between_old_acquaintances_is_a_loss_within_a_second(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one")
            other, _ = await start(cluster, "other", "one")
            await asyncio.sleep(30)
            cluster.network.cut(one.address, other.address)
            await asyncio.sleep(0.9)
            assert [event[:2] for event in ear.events] == [("linked", "other"), ("lost", "other")]

        tell(story)

    def test_a_goodbye_is_told_with_its_reason(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            _, ear = await start(cluster, "one")
            other = Node(cluster.spec("other", join=("memory://one",)), cluster.network.bus())
            await other.__aenter__()
            await asyncio.sleep(1)
            await other.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
            await asyncio.sleep(0.1)
            assert ear.events[1:] == [("left", "other", "ZeroDivisionError")]

        tell(story)

    def test_a_full_disk_is_told_to_the_others(self, tell: Tell) -> None:
        async def fails() -> None:
            raise OSError(28, "No space left on device")

        async def story(cluster: Any) -> None:
            _, ear = await start(cluster, "one")
            other = Node(cluster.spec("other", join=("memory://one",)), cluster.network.bus())
            await other.__aenter__()
            await asyncio.sleep(1)
            failing = other.spawn(fails(), "writes")
            with pytest.raises(asyncio.CancelledError):  # the body of the node, which the failure ends
                await asyncio.wait([failing])
            with pytest.raises(ExceptionGroup):
                await other.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)
            await asyncio.sleep(0.1)
            assert ear.events[1:] == [("left", "other", "its disk is full")]

        tell(story)

    def test_a_loop_that_hangs_is_a_loss(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            _, ear = await start(cluster, "one")
            other, _ = await start(cluster, "other", "one")
            await asyncio.sleep(1)
            (sweep,) = other._works
            sweep.cancel()  # its heart beats on, as it does on its own thread
            await asyncio.sleep(29)
            assert ear.events[1:] == []
            await asyncio.sleep(2)
            ((kind, _, reason),) = ear.events[1:]
            assert kind == "lost"
            assert "stood still" in reason

        tell(story)

    def test_a_restarted_node_is_the_same_name_and_a_new_start(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one")
            old, _ = await start(cluster, "other", "one")
            await asyncio.sleep(1)
            for number in range(5):
                old.publish(PROGRESS, progress(f"old {number}"))
            await asyncio.sleep(0.1)
            old._bus.crash()  # type: ignore[attr-defined]
            new, _ = await start(cluster, "other", "one")
            await asyncio.sleep(1)
            new.publish(PROGRESS, progress("new"))
            await asyncio.sleep(1)
            assert linked(one, new)
            assert ear.heard[5:] == ["new"]
            assert [event[0] for event in ear.events] == ["linked", "lost", "linked"]

        tell(story)


class TestRepair:
    @pytest.mark.parametrize("seed", range(4))
    def test_everything_that_is_said_after_linking_comes_once(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await start(cluster, "speaker")
            _, ear = await start(cluster, "listener", "speaker")
            await asyncio.sleep(10)
            for number in range(100):
                speaker.publish(PROGRESS, progress(str(number)))
                speaker.tell("listener", Capabilities(text=f"card {number}", ready=True))
                await asyncio.sleep(0.01)
            await asyncio.sleep(60)
            assert sorted(ear.heard) == sorted([*map(str, range(100)), *(f"card {n}" for n in range(100))])

        tell(story, Faults(drop=0.3, duplicate=0.1, delay=(0.0, 0.2), heartbeats_too=True), seed)

    def test_a_lost_last_message_is_found_by_a_heartbeat(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await start(cluster, "speaker")
            listener, ear = await start(cluster, "listener", "speaker")
            await asyncio.sleep(1)
            cluster.network.faults = Faults(drop=1.0)
            speaker.publish(PROGRESS, progress("last"))
            cluster.network.faults = Faults()
            await asyncio.sleep(1)
            assert ear.heard == ["last"]
            assert listener.counts["asked again"] == listener.counts["resent"] == 1

        tell(story)

    def test_a_latecomer_does_not_ask_for_what_was_before_it(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await start(cluster, "speaker")
            for number in range(50):
                speaker.publish(PROGRESS, progress(str(number)))
            listener, ear = await start(cluster, "listener", "speaker")
            for number in range(50, 60):
                speaker.publish(PROGRESS, progress(str(number)))
                await asyncio.sleep(0.1)
            await asyncio.sleep(5)
            assert listener.counts["asked again"] == 0
            assert ear.heard == [str(number) for number in range(60 - len(ear.heard), 60)]
            assert len(ear.heard) > 5

        tell(story)

    @pytest.mark.parametrize("seed", range(4))
    def test_neither_does_one_that_joins_in_the_midst_of_loss_and_disorder(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await start(cluster, "speaker")
            for number in range(500):
                speaker.publish(PROGRESS, progress(str(number)))
            _, ear = await start(cluster, "listener", "speaker")
            for number in range(500, 600):
                speaker.publish(PROGRESS, progress(str(number)))
                await asyncio.sleep(0.05)
            await asyncio.sleep(60)  # the last to come were asked for every LONGEST_WAIT seconds
            first = min(map(int, ear.heard))
            assert first >= 500
            assert sorted(map(int, ear.heard)) == list(range(first, 600))

        tell(story, Faults(drop=0.3, delay=(0.0, 0.4), heartbeats_too=True), seed)

    def test_what_the_sender_no_longer_has_is_named_and_not_asked_for_for_ever(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await start(cluster, "speaker")
            listener, ear = await start(cluster, "listener", "speaker")
            await asyncio.sleep(1)
            cluster.network.faults = Faults(drop=1.0)
            speaker.publish(PROGRESS, progress("lost"))
            cluster.network.faults = Faults()
            speaker._publisher.outbox.capacity = 1
            speaker.publish(PROGRESS, progress("heard"))
            await asyncio.sleep(5)
            assert ear.heard == ["heard"]
            assert (listener.counts["gone"], listener.counts["asked again"]) == (1, 1)

        tell(story)

    def test_what_comes_before_a_hello_is_asked_for_after_it_and_heard_once(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            node, ear = await start(cluster, "one")
            other = cluster.forger("other")
            go_between, incarnation = await cluster.forger().link(node), node.presence.me.incarnation
            go_between.say(
                "to/one/", Hello(peer=go_between.me, receiver_incarnation=incarnation, members=(other.me,), latest={})
            )
            await other.send_join_request(node)
            frames = other.say(PROGRESS, progress("early"), number=5)
            await asyncio.sleep(0.1)
            assert (ear.heard, node.counts["early"]) == ([], 1)
            other.say(
                "to/one/", Hello(peer=other.me, receiver_incarnation=incarnation, members=(), latest={PROGRESS: 4})
            )
            other.say(HEARTBEATS, Heartbeat(tick=1, latest={PROGRESS: 5}))
            await asyncio.sleep(1)
            assert {(asked.first, asked.last) for asked in other.messages(RetransmitRequest)} == {(5, 5)}
            for _ in range(2):
                other.bus.publish(codec.encode_retransmission(frames, "test", "other", 1, "to/one/"))
            await asyncio.sleep(1)
            assert ear.heard == ["early"]

        tell(story)

    def test_a_request_for_another_life_is_not_answered(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            node, _ = await start(cluster, "one")
            forger = await cluster.forger().link(node)
            node.publish(PROGRESS, progress("x"))
            old = node.presence.me.incarnation - 1
            forger.say("to/one/", RetransmitRequest(topic=PROGRESS, incarnation=old, first=1, last=1))
            await asyncio.sleep(1)
            assert forger.messages(RetransmitUnavailable) == []
            forger.say("to/one/", RetransmitRequest(topic=PROGRESS, incarnation=old + 1, first=2, last=2))
            await asyncio.sleep(1)
            assert forger.messages(RetransmitUnavailable) == [RetransmitUnavailable(topic=PROGRESS, first=2, last=2)]

        tell(story)

    def test_who_leaves_takes_its_place_in_the_books_with_it(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            node, _ = await start(cluster, "one")
            for number in range(3):
                async with Node(cluster.spec(f"guest{number}", join=("memory://one",)), cluster.network.bus()):
                    await asyncio.sleep(1)
                    node.tell(f"guest{number}", Capabilities(text="{}", ready=False))
                await asyncio.sleep(1)
            assert node._publisher.outbox.latest == {}
            assert node._retransmission._inbox._streams == {}

        tell(story)


def test_what_was_sent_is_counted_by_kind_and_once_however_many_hear_it(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        node, _ = await start(cluster, "a")
        for name in "bc":
            await start(cluster, name, "a")
        await asyncio.sleep(1)
        node.publish(PROGRESS, progress("one"))
        once = node.sent["progress_report"]
        envelope = Envelope(PROGRESS, "test", "a", node.presence.me.incarnation, 1, progress("one"))
        assert once == sum(map(len, codec.encode(envelope)))
        node.publish(PROGRESS, progress("two"))
        assert node.sent["progress_report"] == 2 * once

    tell(story)


class TestHostility:
    """One node against somebody who keeps no rules; a well-behaved third one shows that it lives on."""

    def survive(self, tell: Tell, attack: Callable[[Node, Any], None], **dropped: int) -> None:
        async def story(cluster: Any) -> None:
            node, ear = await start(cluster, "one")
            forger = await cluster.forger().link(node)
            attack(node, forger)
            await asyncio.sleep(1)
            assert {kind: node.counts[kind] for kind in dropped} == dropped
            other, _ = await start(cluster, "other", "one")
            await asyncio.sleep(1)
            other.publish(PROGRESS, progress("alive"))
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
            forger.say(PROGRESS, progress("x"), number=1)

        self.survive(tell, attack, **{"other run": 1})

    def test_an_echo_of_its_own_words_is_ignored(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            forger.name = "one"
            forger.say("to/one/", Goodbye(reason="I?"))

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
            forger.say(PROGRESS, progress("x"), number=1)

        self.survive(tell, attack, stranger=1)

    def test_an_earlier_life_is_not_listened_to(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            forger.incarnation = 0
            forger.say(PROGRESS, progress("x"), number=1)
            forger.say("to/one/", Goodbye(reason="the old one is gone"))

        self.survive(tell, attack, stranger=1)

    def test_a_topic_below_a_subscribed_one_opens_no_book(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            for number in range(10):
                forger.say(f"progress/x{number}/", progress("x"), number=1)

        self.survive(tell, attack, unheard=10)

    def test_huge_numbers_are_bounded_work(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            latest = {PROGRESS: topics.LARGEST, PRESENCE: topics.LARGEST}
            forger.say(HEARTBEATS, Heartbeat(tick=topics.LARGEST, latest=latest))
            forger.say(PROGRESS, progress("x"), number=topics.LARGEST)

        self.survive(tell, attack)

    def test_a_resent_within_a_resent_is_bounded(self, tell: Tell) -> None:
        def attack(node: Node, forger: Any) -> None:
            frames: Any = forger.say(PROGRESS, progress("x"), number=1)
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
            one, ear = await start(cluster, "one")
            await start(cluster, "other", "one")
            forger = await cluster.forger().link(one)
            for number in range(10):
                forger.say("to/one/extra/", progress("unheard"), number + 1)
            await asyncio.sleep(0.1)
            kind, name, reason = ear.events[-1]
            assert (kind, name) == ("lost", "forger")
            assert reason.startswith("quarantined for 10 s: progress_report from forger")
            await asyncio.sleep(9)
            assert one.presence.state("forger") is PeerState.LOST
            assert "other" in one.presence.linked()
            await asyncio.sleep(2)
            assert one.presence.state("forger") is PeerState.KNOWN

        tell(story)

    def test_a_crowd_of_far_away_members_does_not_silence_it(self, tell: Tell) -> None:
        """More than fit into the header of one hello, at the longest addresses that there are."""

        async def story(cluster: Any) -> None:
            node, _ = await start(cluster, "one")
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
            await start(cluster, "other", "one")
            await asyncio.sleep(0.3)
            assert node.presence.state("other") is PeerState.LINKED

        tell(story)


def test_a_welcome_names_the_life_that_it_welcomes(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        node, _ = await start(cluster, "one")
        forger = await cluster.forger(incarnation=77).link(node)
        assert {welcome.receiver_incarnation for welcome in forger.messages(Welcome)} == {77}
        assert forger.messages(Hello)[0].peer == node.presence.me

    tell(story)


@pytest.mark.parametrize("given", [{"advertise": "foo"}, {"advertise": "tcp://host"}, {"join": ("tcp://127.0.0.1:0",)}])
async def test_what_is_no_address_is_refused_before_anything_is_opened(given: Any) -> None:
    node = Node(NodeSpec("a", "client", "test", "memory://a", **given), MemoryNetwork().bus())
    with pytest.raises(NodeError, match="no address of a node"):
        await node.__aenter__()


class TestWorks:
    def node(self) -> Node:
        return Node(NodeSpec("a", "client", "test", "memory://a"), MemoryNetwork().bus())

    async def test_nothing_begins_while_the_node_ends(self, recwarn: pytest.WarningsRecorder) -> None:
        """Neither while other works still end nor after the last: it would be waited for, or never awaited."""
        node, begun, late = self.node(), [], []

        async def begins(when: str) -> None:
            begun.append(when)
            await asyncio.Event().wait()

        async def ends() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                late.append(node.spawn(begins("meanwhile"), "late"))

        async with asyncio.timeout(10), node:
            node.spawn(ends(), "ends")
            await asyncio.sleep(0)
        late.append(node.spawn(begins("after"), "later"))
        await asyncio.wait(late)
        gc.collect()
        assert [work.cancelled() for work in late] == [True, True]
        assert not begun
        assert not [str(each.message) for each in recwarn if "never awaited" in str(each.message)]

    async def test_nothing_begins_once_a_work_has_failed(self) -> None:
        node = self.node()
        late: list[Any] = []

        async def fails() -> None:
            raise NodeError("on purpose")

        async def comes_late() -> None:
            late.append("begun")

        def begin(_failed: object) -> None:
            late.append(node.spawn(comes_late(), "late"))

        async def lives() -> None:
            async with asyncio.timeout(10), node:
                node.spawn(fails(), "fails").add_done_callback(begin)
                await asyncio.Event().wait()

        with pytest.raises(BaseExceptionGroup) as ended:
            await lives()
        assert [str(error) for error in ended.value.exceptions] == ["on purpose"]
        (work,) = late
        assert work.cancelled()


KEYS = {name: PrivateKeys.make(name) for name in ("one", "other", "third", "eve", "stranger")}
TRUSTED = [keys.public for name, keys in KEYS.items() if name != "stranger"]


def ring(name: str) -> Keyring:
    return Keyring.of(KEYS[name], TRUSTED)


class Tape:
    """Whoever hears everything and can say it again: a relay, or a member that has turned."""

    def __init__(self, bus: MemoryTransport) -> None:
        self.bus, self.frames = bus, list[list[Any]]()

    def refused(self, kind: str, why: str) -> None:
        """Nothing is refused on the in-memory bus."""

    async def run(self, *nodes: Node) -> Tape:
        await self.bus.open("memory://tape", self)
        self.bus.subscribe(["to/", "presence/", "progress/", "heartbeat/"])
        for node in nodes:
            self.bus.connect(node.address)
            node._bus.connect("memory://tape")
        await asyncio.sleep(0.1)
        return self

    def received(self, frames: Sequence[Any]) -> None:
        self.frames.append([bytes(frame) for frame in frames])

    def subscribed(self, topic: bytes, present: bool) -> None:
        """Nothing to do."""

    def play(self, frames: Sequence[list[Any]] | None = None) -> None:
        for each in list(self.frames if frames is None else frames):
            self.bus.publish(each)


class TestKeys:
    @pytest.mark.parametrize("seed", range(3))
    def test_members_with_keys_find_each_other_and_lose_nothing(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one", keys=ring("one"))
            other, _ = await start(cluster, "other", "one", keys=ring("other"))
            third, _ = await start(cluster, "third", "one", keys=ring("third"))
            for _ in range(300):
                await asyncio.sleep(0.1)
                if linked(one, other, third):
                    break
            for number in range(50):
                other.publish(PROGRESS, progress(str(number)))
                await asyncio.sleep(0.05)
            await asyncio.sleep(20)
            assert sorted(map(int, ear.heard)) == list(range(50))
            assert not {"tampered", "unknown key", "stolen name", "unsigned", "failed"} & one.counts.keys()

        tell(story, Faults(drop=0.2, duplicate=0.1, delay=(0.0, 0.3), heartbeats_too=True), seed)

    def test_what_was_recorded_is_refused_whenever_it_is_played(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one", keys=ring("one"))
            other, _ = await start(cluster, "other", "one", keys=ring("other"))
            tape = await Tape(cluster.network.bus()).run(one, other)
            other.publish(PROGRESS, progress("once"))
            await asyncio.sleep(1)
            before, replayed = len(tape.frames), one.counts["replayed"]
            tape.play()
            await asyncio.sleep(0.1)
            heard = sum(
                frames[0] in {b"to/one/", b"presence/", b"progress/", b"heartbeat/"} for frames in tape.frames[:before]
            )
            assert one.counts["replayed"] - replayed + one.counts["early"] >= heard // 2 > 0
            assert ear.heard == ["once"]
            assert linked(one, other)

        tell(story)

    def test_a_goodbye_of_an_earlier_life_ends_no_later_one(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one", keys=ring("one"))
            tape = await Tape(cluster.network.bus()).run(one)
            spec = cluster.spec("other", join=("one@memory://one",), keys=ring("other"))
            async with Node(spec, cluster.network.bus()) as other:
                tape.bus.connect(other.address)
                await asyncio.sleep(1)
            farewell = [frames for frames in tape.frames if frames[0] == b"presence/"]
            assert farewell
            async with Node(spec, cluster.network.bus()) as other:
                await asyncio.sleep(1)
                before, early = len(ear.events), one.counts["early"]
                tape.play(farewell)
                await asyncio.sleep(1)
                assert (ear.events[before:], linked(one, other)) == ([], True)
                assert one.counts["early"] == early + len(farewell), "nothing opens what an earlier life has closed"

        tell(story)

    def test_a_life_that_was_recorded_does_not_live_again_for_a_newcomer(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            spec = cluster.spec("one", keys=ring("one"))
            async with Node(spec, cluster.network.bus()) as one:
                tape = await Tape(cluster.network.bus()).run(one)
                async with Node(
                    cluster.spec("other", join=("one@memory://one",), keys=ring("other")), cluster.network.bus()
                ) as other:
                    tape.bus.connect(other.address)
                    await asyncio.sleep(0.5)
                    other.publish(PROGRESS, progress("long ago"))
                    await asyncio.sleep(0.5)
            recorded = list(tape.frames)
            reborn, ear = await start(cluster, "one", keys=ring("one"))
            reborn._bus.connect("memory://tape")
            tape.play(recorded)
            await asyncio.sleep(1)
            assert (ear.heard, ear.events, reborn.presence.members()) == ([], [], (reborn.presence.me,))
            assert reborn.counts["early"] > 0

        tell(story)

    @pytest.mark.parametrize(
        ("speaker", "name", "kind"),
        [("eve", "other", "stolen name"), ("stranger", "other", "unknown key"), (None, "other", "unsigned")],
    )
    def test_nobody_speaks_for_another(
        self, tell: Tell, caplog: pytest.LogCaptureFixture, speaker: str | None, name: str, kind: str
    ) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await start(cluster, "one", keys=ring("one"))
            other, _ = await start(cluster, "other", "one", keys=ring("other"))
            tape = await Tape(cluster.network.bus()).run(one, other)
            before, life = len(ear.events), other.presence.me.incarnation
            security = KeyedSecurity(Keyring.of(KEYS[speaker], TRUSTED), life) if speaker else NullSecurity()
            for message in (Goodbye(reason="false"), Welcome(receiver_incarnation=one.presence.me.incarnation)):
                said = codec.encode(Envelope("to/one/", "test", name, life, 0, message))
                tape.play([security.encrypt(security.sign(said))])
            beat = codec.encode(Envelope(HEARTBEATS, "test", name, life, 0, Heartbeat(tick=9, latest={PROGRESS: 7})))
            tape.play([security.sign(beat)])
            await asyncio.sleep(1)
            assert (ear.heard, ear.events[before:], linked(one, other)) == ([], [], True)
            assert one.counts[kind] == 3
            assert kind in caplog.text

        tell(story)

    def test_who_is_not_trusted_here_is_not_met_by_hearsay(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, _ = await start(cluster, "one", keys=ring("one"))
            wide = Keyring.of(KEYS["other"], [*TRUSTED, KEYS["stranger"].public])
            other, _ = await start(cluster, "other", "one", keys=wide)
            await start(cluster, "stranger", "other", keys=ring("stranger"))
            await asyncio.sleep(2)
            assert set(one.presence.linked()) == {"other"}
            assert set(other.presence.linked()) == {"one", "stranger"}

        tell(story)
