"""Rounds between members on the in-memory bus and a clock that jumps: what everybody ends with, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import RoundPlan, RoundRecord
from fednet.errors import MethodError, ModelError
from fednet.federated.config import Federation
from fednet.federated.local_network import local_network
from fednet.federated.participation import sampled_participants
from nodes.errors import NoQuorum
from nodes.spec import RoundsPolicy
from nodes.transport.memory import Faults
from protocol.messages import ContributionAvailable, LeaderAnnouncement, Prepare, RoundOpen
from protocol.topics import ROUNDS

Tell = Callable[..., Any]

FIVE = ("a", "b", "c", "d", "e")
TRANSPORTS = ("mesh", "sharded")
RULES: list[dict[str, Any]] = [
    {"rule": {"kind": "mean"}},
    {"rule": {"kind": "median"}, "server": {"kind": "momentum", "rate": 0.7}},
    {"rule": {"kind": "trimmed-mean", "trim": 0.2}, "server": {"kind": "adam"}},
    {"rule": {"kind": "mean"}, "server": {"kind": "adam", "rate": 0.1}},
]
KRUM: dict[str, Any] = {"rule": {"kind": "krum", "byzantine": 1, "keep": 2}}


def mean(*pairs: tuple[float, float]) -> float:
    """Weighted mean of (weight, value)."""
    return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)


STEP = mean((1, 1), (2, 2), (3, 3))


def alone(walkers: dict[str, Any], rounds: int, **said: Any) -> list[str]:
    """The digests of the same programme in one process."""
    network = local_network(walkers, dict.fromkeys(walkers, "{}"))
    return [
        closed.digest
        for closed in network.run_rounds(RoundPlan("k", "walk", "step", rounds, Federation.model_validate(said)))
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
class TestRound:
    def test_everybody_ends_with_the_weighted_mean(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            (closed,) = await meeting.run_rounds(transport=transport)
            assert closed.weights == {"a": 1.0, "b": 2.0, "c": 3.0}
            assert closed.values["b"] == {"step": 2.0}
            assert (closed.late, closed.lost, closed.refused) == ((), {}, {})
            await meeting.calm()
            assert meeting.digests() == {closed.digest}
            for state in meeting.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), STEP))
                assert torch.allclose(state["b"], torch.full((1,), 5 + STEP))

        tell(story)

    @pytest.mark.parametrize("faults", [Faults(), Faults(0.1, 0.1, (0.0, 0.3)), Faults(0.3, 0.3, (0.0, 0.5))])
    def test_trouble_on_the_network_changes_nothing(
        self, tell: Tell, hall: Any, transport: str, faults: Faults
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            records = await meeting.run_rounds(rounds=3, transport=transport)
            await meeting.calm(10)
            assert [closed.weights for closed in records] == [{"a": 1.0, "b": 2.0, "c": 3.0}] * 3
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert meeting.digests() == {records[-1].digest}

        tell(story, faults, 3)

    @pytest.mark.parametrize("names", [("a",), ("a", "b"), (*FIVE, "f", "g", "h")])
    def test_any_number_of_members(self, tell: Tell, hall: Any, transport: str, names: tuple[str, ...]) -> None:
        """Eight members share seven numbers in the sharded round: one shard is empty."""

        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *names)
            await meeting.assemble()
            records = await meeting.run_rounds(rounds=2, transport=transport)
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert set(records[0].weights) == set(names)
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    def test_a_participant_is_given_what_the_round_left_and_nothing_before(
        self, tell: Tell, hall: Any, transport: str
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            await meeting.run_rounds(rounds=2, transport=transport, server={"kind": "momentum"})
            await meeting.calm()
            for member in meeting.members.values():
                assert [(model, number) for model, number, _ in member.walker.adopted] == [("walk", 1), ("walk", 2)]
                assert member.walker.adopted[0][2].keys() == {"w", "b"}
                assert [task.number for task in member.walker.tasks] == [1, 2]

        tell(story)


@pytest.mark.parametrize(
    ("transport", "said"), [*((each, rule) for each in TRANSPORTS for rule in RULES), ("mesh", KRUM)]
)
def test_the_bus_gives_what_one_process_gives(tell: Tell, hall: Any, transport: str, said: dict[str, Any]) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster, *FIVE)
        await meeting.assemble()
        walkers = {name: member.walker for name, member in meeting.members.items()}
        records = await meeting.run_rounds(rounds=3, transport=transport, **said)
        assert [closed.digest for closed in records] == alone(walkers, 3, **said)
        await meeting.calm()
        assert meeting.digests() == {records[-1].digest}

    tell(story)


class TestContributions:
    def test_who_declines_is_named_and_the_round_goes_on(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            (closed,) = await meeting.run_rounds(options={"balks": "b"})
            assert closed.lost == {"b": "declined: it does not want to"}
            assert closed.weights == {"a": 1.0, "c": 3.0}
            await meeting.calm()
            assert meeting.digests() == {closed.digest}

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda state: {**state, "w": state["w"] * torch.nan}, "finite"),
            (lambda state: {**state, "w": state["w"][:2]}, "expected float32[3, 2]"),
            (lambda state: {"w": state["w"]}, "b"),
        ],
    )
    def test_who_sends_what_does_not_fit_is_refused(
        self, tell: Tell, hall: Any, transport: str, spoil: Any, why: str
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            meeting.members["b"].walker.spoil = spoil
            (closed,) = await meeting.run_rounds(transport=transport)
            assert closed.lost == {}
            assert closed.refused.keys() == {"b"}
            assert why in closed.refused["b"]
            await meeting.calm()
            assert meeting.digests() == {closed.digest} == set(meeting.replayed([closed]))

        tell(story)

    @pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_weight_that_is_none_is_refused(self, tell: Tell, hall: Any, weight: float) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            meeting.members["c"].walker.weight = weight
            (closed,) = await meeting.run_rounds()
            assert closed.refused.keys() == {"c"}

        tell(story)

    def test_a_method_that_fails_in_an_unforeseen_way_keeps_nobody_waiting(self, tell: Tell, hall: Any) -> None:
        def fails(task: Any) -> None:
            raise ZeroDivisionError

        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            meeting.members["b"].walker.moved = fails
            (closed,) = await meeting.run_rounds()
            assert "ZeroDivisionError" in closed.lost["b"]
            assert closed.seconds < 10

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_what_is_no_blob_of_its_digest_is_refused(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            liar = meeting.members["b"]
            keep = liar.blob_store.keep
            liar.blob_store.keep = lambda key, data: keep(key, bytes(data)[:-1] + lies.pop() if lies else data)
            lies: list[bytes] = []
            liar.walker.moved = lambda _task: lies.extend([b"\x77"] * 3)
            (closed,) = await meeting.run_rounds(transport=transport)
            assert closed.refused.keys() == {"b"}
            assert "is not the state" in closed.refused["b"]

        tell(story)

    def test_twice_stale_unasked_and_forged_contributions_are_named_or_dropped(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            b, said = meeting.members["b"], []
            publish = b.node.publish

            def twice(topic: str, message: Any) -> None:
                publish(topic, message)
                if isinstance(message, ContributionAvailable):
                    said.append(message)
                    publish(topic, message.model_copy(update={"contribution": said[0].contribution}))  # twice
                    publish(topic, said[0])  # of the first round
                    publish(topic, message.model_copy(update={"term": message.term + 300}))  # of a term to come

            b.node.publish = twice
            stranger = cluster.forger("zoe")
            await stranger.link(meeting.members["a"].node)
            stranger.say(ROUNDS, Prepare(term=99), 1)
            records = await meeting.run_rounds(rounds=2)
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert records[0].weights.keys() == records[1].weights.keys() == {"a", "b", "c"}
            assert "twice" in records[0].refused["b"]
            assert "round 1" in records[1].refused["b"] or "twice" in records[1].refused["b"]
            assert meeting.members["a"].node.counts["no member"] == 1
            assert meeting.lead() == "a"

        tell(story)

    def test_a_stale_lead_is_told_so(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            (closed,) = await meeting.run_rounds()
            await meeting.calm()
            c = meeting.members["c"]
            standings = c.assembly.models.standings()
            plan = next(iter(await _plans(meeting)))
            c.node.publish(
                ROUNDS,
                RoundOpen(
                    model="walk", number=2, term=0, attempt=9, index=1, plan=plan, versions=standings,
                    members=("a", "b", "c"), contributors=("a",),
                ),
            )  # fmt: skip
            await meeting.calm()
            assert meeting.members["b"].node.counts["stale term"] == 1
            assert meeting.digests() == {closed.digest}

        tell(story)

    def test_a_draw_is_the_same_everywhere(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE, seed=4)
            await meeting.assemble()
            records = await meeting.run_rounds(rounds=4, participation=0.5)
            for closed in records:
                assert tuple(closed.weights) == sampled_participants(FIVE, 0.5, 4, "walk", closed.number)
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert len({tuple(closed.weights) for closed in records}) > 1

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_who_is_late_is_named_and_catches_up(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            policy = RoundsPolicy(kind="survivors", quorum=2, cold_start=5.0)
            meeting = hall(cluster, rounds=policy)
            for name in ("a", "b", "c"):
                await meeting.member(name, seconds=40.0 if name == "c" else 1.0)
            await meeting.visitor()
            records = await meeting.run_rounds(rounds=2, transport=transport)
            assert records[0].late == ("c",)
            assert records[0].weights.keys() == {"a", "b"}
            await meeting.calm(200)
            assert meeting.digests() == {records[-1].digest} == {meeting.replayed(records)[-1]}

        tell(story)

    def test_fewer_than_the_quorum_are_too_few(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            with pytest.raises(MethodError, match=r"2 of 3 needed contributed \(b declined: it does not want to\)"):
                await meeting.run_rounds(quorum=3, options={"balks": "b"})
            (closed,) = await meeting.run_rounds("again", quorum=3)
            assert closed.number == 1

        tell(story)


async def _plans(meeting: Any) -> list[Any]:
    plans = []
    meeting.members["a"].assembly._requests.add = lambda plan: plans.append(plan) or True
    order = asyncio.ensure_future(meeting.run_rounds("other"))
    await asyncio.sleep(0.5)
    order.cancel()
    return plans


class TestDeaths:
    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("at", ["contribution_available", "round_vote", "shard_reduced"])
    @pytest.mark.parametrize("said", [False, True])
    @pytest.mark.parametrize("number", [1, 2])
    def test_a_member_dies(self, tell: Tell, hall: Any, *, transport: str, at: str, said: bool, number: int) -> None:
        if at == "shard_reduced" and transport == "mesh":
            pytest.skip("only in sharded rounds")

        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            meeting.dies("c", at, said=said, number=number)
            records = await meeting.run_rounds(rounds=3, transport=transport)
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert {*records[-1].weights} == {"a", "b"}
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("at", ["round_open", "contribution_available", "round_close", "round_commit"])
    @pytest.mark.parametrize("said", [False, True])
    @pytest.mark.parametrize(("names", "number"), [(("a", "b", "c"), 1), (FIVE, 2)])
    def test_the_lead_dies(
        self, tell: Tell, hall: Any, *, transport: str, at: str, said: bool, number: int, names: tuple[str, ...]
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *names)
            await meeting.assemble()
            meeting.dies("a", at, said=said, number=number)
            began = asyncio.get_running_loop().time()
            records = await meeting.run_rounds(rounds=3, transport=transport)
            assert asyncio.get_running_loop().time() - began < 30
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert meeting.lead() == "b"
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}
            told = meeting.members["b"].assembly.models.of("k")
            assert [(record.index, record.outcome.digest) for record in told] == [
                (index, closed.digest) for index, closed in enumerate(records, 1)
            ]

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("heard_by", [(), ("e",), ("b",), ("c", "d")])
    @pytest.mark.parametrize("number", [1, 3])
    def test_a_commit_that_few_have_heard_is_never_undone(
        self, tell: Tell, hall: Any, transport: str, heard_by: tuple[str, ...], number: int
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            meeting.dies("a", "round_commit", said=True, number=number, heard_by=heard_by)
            records = await meeting.run_rounds(rounds=3, transport=transport)
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert len(records[number - 1].weights) == 5
            await meeting.calm(5)
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_what_one_hears_and_then_dies_with_the_lead_is_never_undone(
        self, tell: Tell, hall: Any, transport: str
    ) -> None:
        """Only e hears the commit, and e dies with the lead: b, c and d have voted for it."""

        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            meeting.dies("a", "round_commit", said=True, number=2, heard_by=("e",))
            task = asyncio.ensure_future(meeting.run_rounds(rounds=3, transport=transport))
            while "a" in meeting.members:  # noqa: ASYNC110 - nothing tells of a death
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            meeting.bury("e")
            records: tuple[RoundRecord, ...] = await task
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert len(records[1].weights) == 5
            await meeting.calm(5)
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("moment", [0.5, 1.0, 1.2, 2.5, 4.0])
    def test_two_of_five_die(self, tell: Tell, hall: Any, transport: str, moment: float) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            task = asyncio.ensure_future(meeting.run_rounds(rounds=4, transport=transport))
            await asyncio.sleep(moment)
            meeting.bury("a")
            meeting.bury("d")
            records = await task
            assert [closed.digest for closed in records] == meeting.replayed(records)
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    @pytest.mark.parametrize("back", [False, True])
    @pytest.mark.parametrize("gone", [("c", "d", "e"), ("a", "b", "c")])
    @pytest.mark.parametrize("moment", [1.5, 2.05])
    def test_three_of_five_die(
        self, tell: Tell, hall: Any, *, back: bool, gone: tuple[str, ...], moment: float, tmp_path: Path
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            for name in FIVE:
                await meeting.member(name, folder=tmp_path / name)
            await meeting.visitor()
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(meeting.run_rounds(rounds=4))
            await asyncio.sleep(moment)
            for name in gone:
                meeting.bury(name)
            if not back:
                with pytest.raises(NoQuorum):
                    await task
                assert loop.time() < 1000 + 60
                return
            await asyncio.sleep(5)
            for name in gone:
                await meeting.member(name, folder=tmp_path / name)
            records = await task
            assert [closed.digest for closed in records] == meeting.replayed(records)
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}

        tell(story)


class TestComing:
    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("minority", [("a", "b"), ("d", "e"), ("a",)])
    def test_a_partition_heals(
        self, tell: Tell, hall: Any, caplog: pytest.LogCaptureFixture, transport: str, minority: tuple[str, ...]
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            task = asyncio.ensure_future(meeting.run_rounds(rounds=8, transport=transport))
            await asyncio.sleep(1.5)
            sides = [(one, other) for one in minority for other in {*FIVE, "guest"} - set(minority)]
            for one, other in sides:
                cluster.network.cut(f"memory://{one}", f"memory://{other}")
            with caplog.at_level("WARNING"):
                records = await task
            assert {name for name in FIVE if f"{name} waits: 3 members are needed" in caplog.text} == set(minority)
            assert set(records[-1].weights) == set(FIVE) - set(minority)
            assert len(meeting.digests()) >= 2
            for one, other in sides:
                cluster.network.heal(f"memory://{one}", f"memory://{other}")
            await meeting.calm(30)
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert meeting.digests() == {records[-1].digest}
            (more,) = await meeting.run_rounds("more", transport=transport)
            assert set(more.weights) == set(FIVE)

        tell(story)

    @pytest.mark.parametrize(("earlier", "stays"), [(1, True), (0, False)])
    def test_what_the_lead_said_before_a_round_and_comes_late_ends_nothing(
        self, tell: Tell, hall: Any, earlier: int, *, stays: bool
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, "a", "b", "c")
            await meeting.assemble()
            await meeting.run_rounds()
            task = asyncio.ensure_future(meeting.run_rounds("more"))
            await asyncio.sleep(0.5)
            lead = meeting.members[meeting.lead()].assembly
            (other, *_) = {"a", "b", "c"} - {meeting.lead()}
            seat = meeting.members[other].assembly._place.seat
            said = LeaderAnnouncement(
                term=lead.election.term, attempt=lead._coordinator.attempts - earlier, versions={}
            )
            meeting.members[meeting.lead()].node.tell(other, said)
            await asyncio.sleep(0.2)
            assert seat.left is not stays
            task.cancel()

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_a_late_member_is_brought_up_at_once(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.member("a")
            await meeting.member("b")
            meeting.names = ("a", "b")
            await meeting.visitor()
            meeting.names = ("a", "b", "c")
            records = await meeting.run_rounds(rounds=3, transport=transport)
            late = await meeting.member("c")
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}
            assert late.walker.adopted[-1][:2] == ("walk", 3)
            assert late.assembly.models.of("k") == meeting.members["a"].assembly.models.of("k")
            (more,) = await meeting.run_rounds("more", transport=transport)
            assert more.weights.keys() == {"a", "b", "c"}

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_a_member_that_is_not_ready_is_not_waited_for(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            await meeting.run_rounds()
            meeting.bury("a")
            await meeting.calm(5)
            back = await meeting.member("a", ready=False)
            await meeting.calm(1)
            (closed,) = await meeting.run_rounds("k2", transport=transport)
            assert closed.weights.keys() == {"b", "c"}
            await back.ready()
            await meeting.calm()
            assert meeting.digests() == {closed.digest}
            (closed,) = await meeting.run_rounds("k3", transport=transport)
            assert closed.weights.keys() == {"a", "b", "c"}

        tell(story)

    @pytest.mark.parametrize("name", ["a", "b"])
    @pytest.mark.parametrize("moment", [1.5, 2.03, 3.5])
    def test_a_member_starts_again_in_the_midst(
        self, tell: Tell, hall: Any, tmp_path: Path, name: str, moment: float
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            for each in ("a", "b", "c"):
                await meeting.member(each, folder=tmp_path / each)
            await meeting.visitor()
            task = asyncio.ensure_future(meeting.run_rounds(rounds=12))
            await asyncio.sleep(moment)
            meeting.bury(name)
            await asyncio.sleep(0.3)
            await meeting.member(name, folder=tmp_path / name)
            records = await task
            assert [closed.digest for closed in records] == meeting.replayed(records)
            assert records[-1].weights.keys() == {"a", "b", "c"}
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    @pytest.mark.parametrize("moment", [0.5, 1.02, 1.1, 2.5, 3.05])
    def test_a_whole_run_goes_on_from_its_folders(self, tell: Tell, hall: Any, tmp_path: Path, moment: float) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            said: dict[str, Any] = {"server": {"kind": "adam"}}
            for name in ("a", "b", "c"):
                await meeting.member(name, folder=tmp_path / name)
            await meeting.visitor()
            (first,) = await meeting.run_rounds("first", **said)
            task = asyncio.ensure_future(meeting.run_rounds("second", rounds=3, **said))
            await asyncio.sleep(moment)
            task.cancel()
            for name in ("a", "b", "c"):
                meeting.bury(name)
            for name in ("a", "b", "c"):
                await meeting.member(name, folder=tmp_path / name)
            await meeting.calm()
            walkers = [member.walker for member in meeting.members.values()]
            assert await meeting.run_rounds("first", **said) == (first,)
            assert not any(walker.tasks for walker in walkers), "it is remembered, not run again"
            records = [first, *await meeting.run_rounds("second", rounds=3, **said)]
            assert [closed.digest for closed in records] == meeting.replayed(records, **said)
            assert {len(closed.weights) for closed in records} == {3}
            await meeting.calm()
            assert meeting.digests() == {records[-1].digest}

        tell(story)

    def test_a_lead_that_missed_a_programme_tells_its_records(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            first = await meeting.run_rounds("first")
            meeting.bury("b")
            await meeting.calm(5)
            second = await meeting.run_rounds("second", rounds=2)
            await meeting.run_rounds("third")
            await meeting.member("b")
            await meeting.calm()
            meeting.bury("a")
            await meeting.calm(5)
            assert meeting.lead() == "b"
            assert await meeting.run_rounds("second", rounds=2) == second
            assert await meeting.run_rounds("first") == first
            assert not meeting.members["b"].walker.tasks

        tell(story)

    def test_a_folder_that_lies_is_not_resumed_from(self, tell: Tell, hall: Any, tmp_path: Path) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, "a")
            await meeting.member("a", folder=tmp_path)
            await meeting.visitor()
            await meeting.run_rounds()
            await meeting.calm()
            meeting.bury("a")
            (state,) = tmp_path.glob("*.safetensors")  # noqa: ASYNC240 - on fake time
            state.write_bytes(state.read_bytes()[:-1] + b"\x01")
            with pytest.raises(ModelError, match="remove it to begin anew"):
                await meeting.member("a", folder=tmp_path)

        tell(story)


class TestProgrammes:
    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_a_model_is_given(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            await meeting.run_rounds("before", server={"kind": "adam"})
            given = {"w": torch.full((3, 2), 7.0), "b": torch.tensor([1.0])}
            (closed,) = await meeting.run_rounds("give", given=given, transport=transport)
            assert closed.weights == {}
            await meeting.calm()
            for name, state in meeting.states().items():
                assert state.keys() == {"w", "b"}
                assert torch.equal(state["w"], given["w"])
                assert meeting.members[name].walker.adopted[-1][1] == 2

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_a_model_of_another_shape_is_refused_and_everybody_lives_on(
        self, tell: Tell, hall: Any, transport: str
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            with pytest.raises(MethodError, match="given model"):
                await meeting.run_rounds("give", given={"w": torch.zeros(4)}, transport=transport)
            with pytest.raises(MethodError, match="there is no model"):
                await meeting.run_rounds("lost", model="fly", transport=transport)
            with pytest.raises(MethodError, match="give it in one"):
                await meeting.run_rounds("thrice", rounds=3, given={"w": torch.zeros(4)}, transport=transport)
            (closed,) = await meeting.run_rounds(transport=transport)
            assert closed.number == 1

        tell(story)

    @pytest.mark.parametrize("moment", [0.05, 0.2])
    def test_a_guest_dies_while_it_gives(self, tell: Tell, hall: Any, moment: float) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            cluster.network.faults = Faults(delay=(0.08, 0.1))
            given = {"w": torch.full((3, 2), 7.0), "b": torch.tensor([1.0])}
            task = asyncio.ensure_future(meeting.run_rounds("give", given=given))
            await asyncio.sleep(moment)
            meeting.guest._bus.crash()
            task.cancel()
            await meeting.calm(60)
            assert len(meeting.digests()) == 1 if meeting.members["a"].assembly.models.kept else True
            await meeting.visitor("other")
            (closed,) = await meeting.run_rounds("k")
            await meeting.calm()
            assert meeting.digests() == {closed.digest}

        tell(story)

    def test_two_guests_and_two_models(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            one = meeting.convener
            other = await meeting.visitor("other")
            mine = RoundPlan("one", "walk", "step", 3, Federation())
            theirs = RoundPlan("other", "run", "step", 2, Federation(transport="sharded"))
            both = await asyncio.gather(one.run_rounds(mine), other.run_rounds(theirs), other.run_rounds(mine))
            assert [len(records) for records in both] == [3, 2, 3]
            assert both[0] == both[2]
            assert [closed.digest for closed in both[0]] == meeting.replayed(both[0])
            await meeting.calm()
            assert meeting.digests("walk") == {both[0][-1].digest}
            assert meeting.digests("run") == {both[1][-1].digest}

        tell(story)

    def test_an_order_is_repeated_and_remembered(self, tell: Tell, hall: Any) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            records = await meeting.run_rounds(rounds=3)
            assert await meeting.run_rounds(rounds=3) == records
            assert all(len(member.walker.tasks) == 3 for member in meeting.members.values())

        tell(story)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_blobs_of_old_rounds_are_dropped(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster)
            await meeting.assemble()
            meeting.members["b"].walker.step = 0.0  # what it contributes is the base, and has its digest
            records = await meeting.run_rounds(rounds=3, transport=transport)
            await meeting.calm()
            few = {name: len(member.blob_store._kept) for name, member in meeting.members.items()}
            await meeting.run_rounds("on", rounds=6, transport=transport)
            await meeting.calm()
            assert {name: len(member.blob_store._kept) for name, member in meeting.members.items()} == few
            assert records[-1].digest not in meeting.digests()
            for member in meeting.members.values():
                assert member.blob_store.has(next(iter(meeting.digests())))

        tell(story)
