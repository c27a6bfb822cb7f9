"""Members with keys: nobody speaks for another, and nothing that was recorded counts again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from nodes.node import Node
from nodes.transport.memory import Faults, MemoryTransport
from protocol import codec
from protocol.codec import Envelope
from protocol.messages import (
    Heartbeat,
    Message,
    ProgressReport,
    QueryRefusal,
    Welcome,
)
from protocol.security.authentication import NullSecurity
from protocol.security.budget import Cost
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import HEARTBEATS, PROGRESS
from tests.cases import first

Tell = Callable[..., Any]

progress_report = partial(ProgressReport, done=0, total=0, values={})


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

    def received(self, frames: Sequence[Any], origin: str = "") -> None:
        self.frames.append([bytes(frame) for frame in frames])

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return True

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        """Nothing to do."""

    def play(self, frames: Sequence[list[Any]] | None = None) -> None:
        for each in list(self.frames if frames is None else frames):
            self.bus.publish(each)


class TestKeys:
    @pytest.mark.parametrize("seed", first(2, range(3)))
    def test_members_with_keys_find_each_other_and_lose_nothing(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one", keys=ring("one"))
            other, _ = await cluster.start("other", "one", keys=ring("other"))
            third, _ = await cluster.start("third", "one", keys=ring("third"))
            for _ in range(300):
                await asyncio.sleep(0.1)
                if cluster.linked(one, other, third):
                    break
            for number in range(50):
                other.publish(PROGRESS, progress_report(phase=str(number)))
                await asyncio.sleep(0.05)
            await asyncio.sleep(20)
            assert sorted(map(int, ear.heard)) == list(range(50))
            assert not {"tampered", "unknown key", "stolen name", "unsigned", "failed"} & one.counts.keys()

        tell(story, Faults(drop=0.2, duplicate=0.1, delay=(0.0, 0.3), heartbeats_too=True), seed)

    def test_what_was_recorded_is_refused_whenever_it_is_played(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one", keys=ring("one"))
            other, _ = await cluster.start("other", "one", keys=ring("other"))
            tape = await Tape(cluster.network.bus()).run(one, other)
            other.publish(PROGRESS, progress_report(phase="once"))
            await asyncio.sleep(1)
            before, replayed = len(tape.frames), one.counts["replayed"]
            tape.play()
            await asyncio.sleep(0.1)
            heard = sum(
                frames[0] in {b"to/one/", b"presence/", b"progress/", b"heartbeat/"} for frames in tape.frames[:before]
            )
            assert one.counts["replayed"] - replayed + one.counts["early"] >= heard // 2 > 0
            assert ear.heard == ["once"]
            assert cluster.linked(one, other)

        tell(story)

    def test_a_goodbye_of_an_earlier_life_ends_no_later_one(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, ear = await cluster.start("one", keys=ring("one"))
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
                assert (ear.events[before:], cluster.linked(one, other)) == ([], True)
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
                    other.publish(PROGRESS, progress_report(phase="long ago"))
                    await asyncio.sleep(0.5)
            recorded = list(tape.frames)
            reborn, ear = await cluster.start("one", keys=ring("one"))
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
            one, ear = await cluster.start("one", keys=ring("one"))
            other, _ = await cluster.start("other", "one", keys=ring("other"))
            tape = await Tape(cluster.network.bus()).run(one, other)
            before, life = len(ear.events), other.presence.me.incarnation
            security = KeyedSecurity(Keyring.of(KEYS[speaker], TRUSTED), life) if speaker else NullSecurity()
            welcome, refusal = (
                Welcome(receiver_incarnation=one.presence.me.incarnation),
                QueryRefusal(query=1, reason=""),
            )
            said_of: list[tuple[int, Message]] = [(1, refusal), (0, welcome)]
            for number, message in said_of:
                said = codec.encode(Envelope("to/one/", "test", name, life, number, message))
                tape.play([security.encrypt(security.sign(said))])
            beat = codec.encode(Envelope(HEARTBEATS, "test", name, life, 0, Heartbeat(tick=9, latest={PROGRESS: 7})))
            tape.play([security.sign(beat)])
            await asyncio.sleep(1)
            assert (ear.heard, ear.events[before:], cluster.linked(one, other)) == ([], [], True)
            assert one.counts[kind] == 3
            assert kind in caplog.text

        tell(story)

    def test_who_is_not_trusted_here_is_not_met_by_hearsay(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, _ = await cluster.start("one", keys=ring("one"))
            wide = Keyring.of(KEYS["other"], [*TRUSTED, KEYS["stranger"].public])
            other, _ = await cluster.start("other", "one", keys=wide)
            await cluster.start("stranger", "other", keys=ring("stranger"))
            await asyncio.sleep(2)
            assert set(one.presence.linked()) == {"other"}
            assert set(other.presence.linked()) == {"one", "stranger"}

        tell(story)
