"""Rounds between members on the in-memory bus and a clock that jumps: every member ends with the same outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from fednet.api import Responder, RoundPlan, RoundRecord
from fednet.errors import MethodError
from fednet.federated.config import Federation
from fednet.federated.local_network import local_network
from fednet.federated.participation import sampled_participants
from nodes.rounds.client import to_plan_message
from nodes.transport.memory import Faults
from protocol.messages import LeaderAnnouncement, RoundOpen
from protocol.topics import ROUNDS

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

FIVE = ("a", "b", "c", "d", "e")
TRANSPORTS = ("mesh", "sharded")
RULES: list[dict[str, Any]] = [
    {"rule": {"kind": "mean"}},
    {"rule": {"kind": "median"}, "server": {"kind": "momentum", "rate": 0.7}},
    {"rule": {"kind": "trimmed-mean", "trim": 0.2}, "server": {"kind": "adam"}},
    {"rule": {"kind": "mean"}, "server": {"kind": "adam", "rate": 0.1}},
]
KRUM: dict[str, Any] = {"rule": {"kind": "krum", "byzantine": 1, "keep": 2}}

MEAN_STEP = (1 * 1 + 2 * 2 + 3 * 3) / (1 + 2 + 3)
"""The step of the mean, weighted as a, b and c are."""


def in_one_process(participants: Mapping[str, Responder], rounds: int, **federation: Any) -> list[str]:
    """The digests of the same plan in one process."""
    network = local_network(participants, dict.fromkeys(participants, "{}"))
    plan = RoundPlan("k", "walk", "step", rounds, Federation.model_validate(federation))
    return [record.digest for record in network.run_rounds(plan)]


@pytest.mark.parametrize("transport", TRANSPORTS)
class TestRound:
    def test_every_member_ends_with_the_weighted_mean(self, tell: Tell, make_group: MakeGroup, transport: str) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            (record,) = await group.run_rounds(transport=transport)
            assert record.weights == {"a": 1.0, "b": 2.0, "c": 3.0}
            assert record.values["b"] == {"step": 2.0}
            assert (record.late, record.lost, record.refused) == ((), {}, {})
            await group.require_converged([record])
            for state in group.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), MEAN_STEP))
                assert torch.allclose(state["b"], torch.full((1,), 5 + MEAN_STEP))

        tell(story)

    @pytest.mark.parametrize("faults", [Faults(0.1, 0.1, (0.0, 0.3)), Faults(0.3, 0.3, (0.0, 0.5))])
    def test_faults_of_the_network_change_nothing(
        self, tell: Tell, make_group: MakeGroup, transport: str, faults: Faults
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            records = await group.run_rounds(rounds=3, transport=transport)
            assert [record.weights for record in records] == [{"a": 1.0, "b": 2.0, "c": 3.0}] * 3
            await group.require_converged(records, 10)

        tell(story, faults, 3)

    @pytest.mark.parametrize("names", [("a",), ("a", "b"), (*FIVE, "f", "g", "h")])
    def test_any_number_of_members(
        self, tell: Tell, make_group: MakeGroup, transport: str, names: tuple[str, ...]
    ) -> None:
        """Eight members share seven numbers in the sharded round: one shard is empty."""

        async def story(cluster: Any) -> None:
            group = make_group(cluster, *names)
            await group.start()
            records = await group.run_rounds(rounds=2, transport=transport)
            assert set(records[0].weights) == set(names)
            await group.require_converged(records)

        tell(story)

    def test_a_participant_adopts_every_outcome_once(self, tell: Tell, make_group: MakeGroup, transport: str) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            records = await group.run_rounds(rounds=2, transport=transport, server={"kind": "momentum"})
            await group.require_converged(records, server={"kind": "momentum"})
            for participant in (member.participant for member in group.members.values()):
                assert [(model, number) for model, number, _ in participant.adopted] == [("walk", 1), ("walk", 2)]
                assert participant.adopted[0][2].keys() == {"w", "b"}
                assert [task.number for task in participant.tasks] == [1, 2]

        tell(story)


@pytest.mark.parametrize(
    ("transport", "federation"), [*((each, rule) for each in TRANSPORTS for rule in RULES), ("mesh", KRUM)]
)
def test_the_bus_gives_what_one_process_gives(
    tell: Tell, make_group: MakeGroup, transport: str, federation: dict[str, Any]
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        participants = {name: member.participant for name, member in group.members.items()}
        records = await group.run_rounds(rounds=3, transport=transport, **federation)
        assert [record.digest for record in records] == in_one_process(participants, 3, **federation)
        await group.settle()
        assert group.digests() == {records[-1].digest}

    tell(story)


def test_the_contributors_drawn_are_the_same_everywhere(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, seed=4)
        await group.start()
        records = await group.run_rounds(rounds=4, participation=0.5)
        for record in records:
            assert tuple(record.weights) == sampled_participants(FIVE, 0.5, 4, "walk", record.number)
        await group.require_converged(records)
        assert len({tuple(record.weights) for record in records}) > 1

    tell(story)


def test_fewer_than_the_quorum_are_too_few(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        with pytest.raises(MethodError, match=r"2 of 3 needed contributed \(b declined: it does not want to\)"):
            await group.run_rounds(quorum=3, options={"declines": "b"})
        (record,) = await group.run_rounds("again", quorum=3)
        assert record.number == 1

    tell(story)


def test_a_leader_of_a_stale_term_is_refused(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        (record,) = await group.run_rounds()
        await group.settle()
        c = group.members["c"]
        plan, _ = to_plan_message(RoundPlan("other", "walk", "step", 1, Federation()), "driver")
        opened = RoundOpen(
            model="walk", number=2, term=0, attempt=9, index=1, plan=plan,
            records=c.service.store.latest(), base=c.service.store.checkpoints["walk"].version.outcome,
            members=("a", "b", "c"), contributors=("a",),
        )  # fmt: skip
        c.node.publish(ROUNDS, opened)
        await group.settle()
        assert group.members["b"].node.counts["stale term"] == 1
        assert group.digests() == {record.digest}

    tell(story)


@pytest.mark.parametrize(("earlier", "continues"), [(1, True), (0, False)])
def test_an_announcement_that_was_sent_before_the_round_and_comes_late_ends_nothing(
    tell: Tell, make_group: MakeGroup, earlier: int, *, continues: bool
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds()
        task = asyncio.ensure_future(group.run_rounds("more"))
        await asyncio.sleep(0.5)
        leader = group.members[group.leader()]
        (other, *_) = {"a", "b", "c"} - {group.leader()}
        part = group.members[other].service._participation.current
        attempt = leader.service._leading.attempts - earlier
        leader.node.tell(other, LeaderAnnouncement(term=leader.service.election.term, attempt=attempt, records={}))
        await asyncio.sleep(0.2)
        assert part.abandoned is not continues
        task.cancel()

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_blobs_of_old_rounds_are_dropped(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.members["b"].participant.step = 0.0  # what it contributes is the base, and has its digest
        records: tuple[RoundRecord, ...] = await group.run_rounds(rounds=3, transport=transport)
        await group.settle()
        few = {name: len(member.blob_store._kept) for name, member in group.members.items()}
        await group.run_rounds("on", rounds=6, transport=transport)
        await group.settle()
        assert {name: len(member.blob_store._kept) for name, member in group.members.items()} == few
        assert records[-1].digest not in group.digests()
        for member in group.members.values():
            assert member.blob_store.has(next(iter(group.digests())))

    tell(story)
