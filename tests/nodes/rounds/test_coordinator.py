"""What a lead makes of votes that differ, of members that cannot take part, and of refusals that are not theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fednet.errors import MethodError
from protocol.messages import ContributionReceipt, RoundVote
from protocol.messages.rounds import BlobRef

Tell = Callable[..., Any]


def dissents(member: Any, letter: str) -> None:
    """A member votes for something else than it has computed."""
    tell = member.node.tell

    def told(name: str, message: Any) -> None:
        if isinstance(message, RoundVote):
            message = message.model_copy(update={"outcome": BlobRef(digest=letter * 64, size=1)})
        tell(name, message)

    member.node.tell = told


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_who_has_computed_something_else_is_named(tell: Tell, hall: Any, transport: str) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        dissents(meeting.members["c"], "0")
        (closed,) = await meeting.run_rounds(transport=transport)
        assert closed.refused == {"c": "it computed another aggregate"}
        await meeting.calm()
        assert meeting.digests() == {closed.digest}

    tell(story)


def test_without_agreement_nothing_closes(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        dissents(meeting.members["b"], "0")
        dissents(meeting.members["c"], "1")
        with pytest.raises(MethodError, match=r"2 members must agree on what round 1 leaves.*b computed 000000000000"):
            await meeting.run_rounds()
        assert all(not member.assembly.models.records for member in meeting.members.values())

    tell(story)


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_who_knows_no_such_model_is_done_without(tell: Tell, hall: Any, transport: str) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        begin = meeting.members["c"].walker.initial_state
        meeting.members["c"].walker.initial_state = lambda model: begin("no" + model)
        records = await meeting.run_rounds(rounds=2, transport=transport)
        assert [set(closed.weights) for closed in records] == [{"a", "b"}] * 2
        assert all("there is no model" in closed.lost["c"] for closed in records)
        assert [closed.digest for closed in records] == meeting.replayed(records)

    tell(story)


def test_nobody_refuses_what_another_has_contributed(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster)
        await meeting.assemble()
        c = meeting.members["c"]
        publish = c.node.publish

        def said(topic: str, message: Any) -> None:
            if message.kind == "contribution_available":
                fields = {name: getattr(message, name) for name in ("model", "number", "term", "attempt")}
                c.node.tell("a", ContributionReceipt(**fields, contributor="b", refused="I do not like it"))
            publish(topic, message)

        c.node.publish = said
        (closed,) = await meeting.run_rounds()
        assert closed.weights.keys() == {"a", "b", "c"}
        assert closed.refused == {}

    tell(story)
