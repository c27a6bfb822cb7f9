"""A member misses nothing that was published after it was linked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from nodes.transport.memory import Faults
from protocol import codec
from protocol.messages import (
    Capabilities,
    Heartbeat,
    Hello,
    ProgressReport,
    RetransmitRequest,
    RetransmitUnavailable,
)
from protocol.topics import HEARTBEATS, PROGRESS
from tests.cases import first

Tell = Callable[..., Any]

progress_report = partial(ProgressReport, done=0, total=0, values={})


class TestRepair:
    @pytest.mark.parametrize("seed", first(2, range(4)))
    def test_everything_that_is_said_after_linking_comes_once(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await cluster.start("speaker")
            _, ear = await cluster.start("listener", "speaker")
            await asyncio.sleep(10)
            for number in range(100):
                speaker.publish(PROGRESS, progress_report(phase=str(number)))
                speaker.tell("listener", Capabilities(text=f"card {number}", ready=True))
                await asyncio.sleep(0.01)
            await asyncio.sleep(60)
            assert sorted(ear.heard) == sorted([*map(str, range(100)), *(f"card {n}" for n in range(100))])

        tell(story, Faults(drop=0.3, duplicate=0.1, delay=(0.0, 0.2), heartbeats_too=True), seed)

    def test_a_lost_last_message_is_found_by_a_heartbeat(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await cluster.start("speaker")
            listener, ear = await cluster.start("listener", "speaker")
            await asyncio.sleep(1)
            cluster.network.faults = Faults(drop=1.0)
            speaker.publish(PROGRESS, progress_report(phase="last"))
            cluster.network.faults = Faults()
            await asyncio.sleep(1)
            assert ear.heard == ["last"]
            assert listener.counts["asked again"] == listener.counts["resent"] == 1

        tell(story)

    def test_a_latecomer_does_not_ask_for_what_was_before_it(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await cluster.start("speaker")
            for number in range(50):
                speaker.publish(PROGRESS, progress_report(phase=str(number)))
            listener, ear = await cluster.start("listener", "speaker")
            for number in range(50, 60):
                speaker.publish(PROGRESS, progress_report(phase=str(number)))
                await asyncio.sleep(0.1)
            await asyncio.sleep(5)
            assert listener.counts["asked again"] == 0
            assert ear.heard == [str(number) for number in range(60 - len(ear.heard), 60)]
            assert len(ear.heard) > 5

        tell(story)

    @pytest.mark.parametrize("seed", first(2, range(4)))
    def test_neither_does_one_that_joins_in_the_midst_of_loss_and_disorder(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await cluster.start("speaker")
            for number in range(500):
                speaker.publish(PROGRESS, progress_report(phase=str(number)))
            _, ear = await cluster.start("listener", "speaker")
            for number in range(500, 600):
                speaker.publish(PROGRESS, progress_report(phase=str(number)))
                await asyncio.sleep(0.05)
            await asyncio.sleep(60)  # the last to come were asked for every LONGEST_WAIT seconds
            first = min(map(int, ear.heard))
            assert first >= 500
            assert sorted(map(int, ear.heard)) == list(range(first, 600))

        tell(story, Faults(drop=0.3, delay=(0.0, 0.4), heartbeats_too=True), seed)

    def test_what_the_sender_no_longer_has_is_named_and_not_asked_for_for_ever(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            speaker, _ = await cluster.start("speaker")
            listener, ear = await cluster.start("listener", "speaker")
            await asyncio.sleep(1)
            cluster.network.faults = Faults(drop=1.0)
            speaker.publish(PROGRESS, progress_report(phase="lost"))
            cluster.network.faults = Faults()
            speaker._publisher.outbox.capacity = 1
            speaker.publish(PROGRESS, progress_report(phase="heard"))
            await asyncio.sleep(5)
            assert ear.heard == ["heard"]
            assert (listener.counts["gone"], listener.counts["asked again"]) == (1, 1)

        tell(story)

    def test_what_comes_before_a_hello_is_asked_for_after_it_and_heard_once(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            node, ear = await cluster.start("one")
            other = cluster.forger("other")
            go_between, incarnation = await cluster.forger().link(node), node.presence.me.incarnation
            go_between.say(
                "to/one/", Hello(peer=go_between.me, receiver_incarnation=incarnation, members=(other.me,), latest={})
            )
            await other.send_join_request(node)
            frames = other.say(PROGRESS, progress_report(phase="early"), number=5)
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
            node, _ = await cluster.start("one")
            forger = await cluster.forger().link(node)
            node.publish(PROGRESS, progress_report(phase="x"))
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
            node, _ = await cluster.start("one")
            for number in range(3):
                async with Node(cluster.spec(f"guest{number}", join=("memory://one",)), cluster.network.bus()):
                    await asyncio.sleep(1)
                    node.tell(f"guest{number}", Capabilities(text="{}", ready=False))
                await asyncio.sleep(1)
            assert node._publisher.outbox.latest == {}
            assert node._retransmission._inbox._streams == {}

        tell(story)


class TestShare:
    """Of what is heard, what is heard by retransmission."""

    def warnings(self, tell: Tell, caplog: pytest.LogCaptureFixture, drop: float) -> list[str]:
        async def story(cluster: Any) -> float:
            speaker, _ = await cluster.start("speaker")
            listener, ear = await cluster.start("listener", "speaker")
            await asyncio.sleep(5)
            cluster.network.faults = Faults(drop=drop)
            for number in range(300):
                speaker.publish(PROGRESS, progress_report(phase=str(number)))
                await asyncio.sleep(0.05)
            cluster.network.faults = Faults()
            await asyncio.sleep(5)
            assert len(ear.heard) == 300
            return listener.repair_share("speaker")

        self.share = tell(story)
        return [record.getMessage() for record in caplog.records if "retransmission" in record.getMessage()]

    def test_a_conversation_that_lives_by_it_is_one_warning(self, tell: Tell, caplog: pytest.LogCaptureFixture) -> None:
        (warning,) = self.warnings(tell, caplog, 0.4)
        assert "speaker" in warning
        assert self.share > 0.2

    def test_one_that_loses_a_few_messages_is_none(self, tell: Tell, caplog: pytest.LogCaptureFixture) -> None:
        assert self.warnings(tell, caplog, 0.02) == []
        assert 0 < self.share < 0.1
