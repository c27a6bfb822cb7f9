"""The leader holds rounds in attempts: votes that differ, members that cannot take part, and false receipts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.errors import MethodError
from protocol.machines.attempt_values import Phase, RoundImpossible
from protocol.machines.participant_values import Stage
from protocol.machines.story import packed, retold
from protocol.messages import ContributionReceipt, Message, RoundVote
from protocol.messages.round_values import BlobRef

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


def vote_otherwise(member: Any, digit: str) -> None:
    """A member votes for another outcome than it has computed."""
    publish = member.node.publish

    def send(topic: str, message: Message) -> None:
        if isinstance(message, RoundVote):
            message = message.model_copy(update={"outcome": BlobRef(digest=digit * 64, size=1)})
        publish(topic, message)

    member.node.publish = send


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_a_dissenter_is_named(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        vote_otherwise(group.members["c"], "0")
        (record,) = await group.run_rounds(transport=transport)
        assert record.refused == {"c": "it computed another aggregate"}
        await group.require_converged([record])

    tell(story)


def test_without_agreement_no_round_closes(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        vote_otherwise(group.members["b"], "0")
        vote_otherwise(group.members["c"], "1")
        reason = r"2 members must agree on the outcome of round 1.*b computed 000000000000"
        with pytest.raises(MethodError, match=reason):
            await group.run_rounds()
        assert all(not member.service.store.records for member in group.members.values())

    tell(story)


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_a_member_that_knows_no_such_model_is_left_out(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        begin = group.members["c"].participant.initial_state
        group.members["c"].participant.initial_state = lambda model: begin("no" + model)
        records = await group.run_rounds(rounds=2, transport=transport)
        assert [set(record.weights) for record in records] == [{"a", "b"}] * 2
        assert all("there is no model" in record.lost["c"] for record in records)
        assert [record.digest for record in records] == group.recomputed(records)

    tell(story)


def test_no_member_refuses_the_contribution_of_another(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        c = group.members["c"]
        publish = c.node.publish

        def refuse(topic: str, message: Any) -> None:
            if message.kind == "contribution_available":
                fields = {name: getattr(message, name) for name in ("model", "number", "term", "attempt")}
                c.node.tell("a", ContributionReceipt(**fields, contributor="b", refused="I do not like it"))
            publish(topic, message)

        c.node.publish = refuse
        (record,) = await group.run_rounds()
        assert record.weights.keys() == {"a", "b", "c"}
        assert record.refused == {}

    tell(story)


def test_a_round_that_failed_leaves_stories_that_can_be_replayed(
    tell: Tell, make_group: MakeGroup, tmp_path: Path
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, keyed=True)
        await group.start(tmp_path)
        vote_otherwise(group.members["b"], "0")
        vote_otherwise(group.members["c"], "1")
        with pytest.raises(MethodError, match="2 members must agree"):
            await group.run_rounds()
        (path,) = (tmp_path / group.leader()).glob("stories/walk-000001-*.story")
        attempt, instructions = retold(path.read_bytes())
        assert attempt.state is Phase.IMPOSSIBLE
        assert isinstance(end := instructions[-1][0], RoundImpossible)
        assert {"b", "c"} <= end.lost.keys()

    tell(story)


@pytest.mark.parametrize("federation", [{}, {"transport": "sharded"}, {"secure": {"clip": 32.0}}])
def test_the_story_of_a_part_is_what_its_machine_has_signed_and_asked(
    tell: Tell, make_group: MakeGroup, federation: dict[str, Any]
) -> None:
    """What else is signed and checked in the round, such as shares, is no part of it."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, keyed=True)
        await group.start()
        await group.run_rounds(**federation)
        await group.settle()
        for member in group.members.values():
            machine = member.service._participation.current.machine
            again: Any = retold(packed(machine))[0]
            assert again.record == machine.record
            assert again.state is Stage.ADOPTED

    tell(story)
