"""What a guest or a lying member makes as large as it can stops no election: all that was voted for fits a promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fednet.errors import MethodError
from protocol.machines.sizes import MAX_PLAN_BYTES
from protocol.messages.base import MAX_VALUES
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import ContributionAvailable, RoundCommit, RoundsRequest
from protocol.messages.secure_sum import KeyAdvertisement
from protocol.topics import ROUNDS
from tests.nodes.rounds.test_service_lies import tells_otherwise

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

FIVE = ("a", "b", "c", "d", "e")
LIARS = ("d", "e")
PLAN = RoundPlanMessage(
    key="p", requester="driver", model="walk", task="step", rounds=1, federation="{}", options={}
)  # fmt: skip
VALUES = {f"{number}".ljust(64, "\U0001f600"): 0.0 for number in range(MAX_VALUES)}
"""The largest map of values: 66 KiB, so that the records of two liars fill a header."""


def lie_with(group: Any, liar: str, values: dict[str, float]) -> None:
    """A member says other values than it has measured, and signs them."""
    member = group.members[liar]
    publish = member.node.publish

    def lying(topic: str, message: Any) -> None:
        if isinstance(message, ContributionAvailable):
            message = message.model_copy(
                update={"contribution": message.contribution.model_copy(update={"values": values})}
            )
            message = member.service._signatory.signed(message)
        elif isinstance(message, KeyAdvertisement):
            message = member.service._signatory.signed(message.model_copy(update={"values": values}))
        publish(topic, message)

    member.node.publish = lying


@pytest.mark.parametrize("size", [MAX_PLAN_BYTES, 286_000])
def test_a_guests_plan_that_is_too_large_is_not_begun(tell: Tell, make_group: MakeGroup, size: int) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        await group.run_rounds()
        with pytest.raises(MethodError, match=f"{MAX_PLAN_BYTES} are the most"):
            await group.run_rounds("large", options={"rest": "x" * size})
        assert not any(member.service.store.votes for member in group.members.values())
        assert len(await group.run_rounds("honest")) == 1

    tell(story)


@pytest.mark.parametrize("secure", [False, True])
def test_values_beyond_a_contributors_part_are_refused_and_no_leader_is_stopped_by_them(
    tell: Tell, make_group: MakeGroup, *, secure: bool
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        for liar in LIARS:
            lie_with(group, liar, VALUES)
        federation: dict[str, Any] = {"secure": {"clip": 64.0, "threshold": 3}} if secure else {}
        (record,) = await group.run_rounds("lies", **federation)
        assert record.weights.keys() == {*FIVE} - {*LIARS}
        group.crash_on("a", "round_commit", sent=False)
        await group.run_rounds("again", quorum=2)
        assert group.leader() != "a"
        assert not any(member.node._ends for member in group.members.values())

    tell(story)


def test_a_leader_that_writes_a_record_too_large_gets_no_votes(tell: Tell, make_group: MakeGroup) -> None:
    """Its reasons, why others were lost, are its own words."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        await group.run_rounds()
        lost = {f"n{number}": "\U0001f600" * 500 for number in range(100)}
        tells_otherwise(group, "a", "round_close", lambda _name, said: said.model_copy(update={"lost": lost}))
        tells_otherwise(group, "a", "round_commit", lambda _name, said: said)
        with pytest.raises(MethodError):
            await group.run_rounds("lies")
        assert not any(member.service.store.votes for name, member in group.members.items() if name != "a")
        group.crash("a")
        await group.settle(15)
        (record,) = await group.run_rounds("honest", quorum=4)
        assert record.number == 2

    tell(story)


def test_remarks_that_no_vote_covers_make_no_record_too_large(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        await group.run_rounds()
        remarks = {f"n{number}": "\U0001f600" * 500 for number in range(100)}
        publish = group.members["a"].node.publish

        def lying(topic: str, message: Any) -> None:
            if isinstance(message, RoundCommit):
                message = message.model_copy(update={"remarks": remarks})
            publish(topic, message)

        group.members["a"].node.publish = lying
        group.client._node.publish(ROUNDS, RoundsRequest(plan=PLAN))
        await group.settle(10)
        honest = [member for name, member in group.members.items() if name != "a"]
        assert all(member.node.faults["a"] > 0 for member in honest)
        assert not any(record.remarks for member in honest for record in member.service.store.records)
        group.crash("a")
        (record,) = await group.run_rounds("honest", quorum=4)
        assert record.number == 3, "what all have voted for is recovered"

    tell(story)


def test_a_member_that_cannot_say_what_it_has_voted_for_lives_on_and_blames_nobody(
    tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may have voted before there was a bound."""
    monkeypatch.setattr("protocol.machines.sizes.MAX_PLAN_BYTES", 1 << 20)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        await group.run_rounds()
        group.crash_on("a", "round_commit", sent=False)
        large = PLAN.model_copy(update={"options": {"rest": "x" * ((288 << 10) - 1600)}})
        group.client._node.publish(ROUNDS, RoundsRequest(plan=large))
        await group.settle(20)
        for member in group.members.values():
            assert member.service.store.votes, "it has voted"
            assert not member.node._ends
            assert not {"b", "c", "d", "e"} & member.node.faults.keys()
        assert sum(member.node.counts["too large"] for member in group.members.values()) > 0

    tell(story)
