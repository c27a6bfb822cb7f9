"""One attempt, led without a network: what the leader publishes after which messages, and when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from fednet.federated.config import Federation
from nodes.node import Node
from nodes.rounds.attempt import RoundAttempt
from nodes.rounds.failures import AttemptFailed, RoundImpossible
from nodes.rounds.signatory import Signatory
from nodes.spec import RoundsPolicy
from protocol.certificates import vote_for
from protocol.election import Election
from protocol.messages import (
    ContributionAvailable,
    ContributionReceipt,
    Message,
    ModelAdopted,
    RoundDecline,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import RoundClose, RoundCommit, RoundMessage
from protocol.quorum import DeadlineEstimator
from protocol.rounds import round_message

Play = Callable[..., Any]
NAMES = ("a", "b", "c")
OUTCOME, OTHER = BlobRef(digest="1" * 64, size=1), BlobRef(digest="2" * 64, size=1)


THIRD = RoundCommit(
    model="m", number=3, term=0, attempt=9, key="j", index=1, rounds=2, leader="c", base="0" * 64, outcome=OTHER,
    transcript="1" * 64, weights={"c": 1.0}, values={}, late=(), lost={}, refused={}, seconds=1.0,
)  # fmt: skip


class Keyless:
    """A node without keys."""

    run = "run"

    def attest(self, statement: bytes) -> bytes:
        return b""

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        return not signature


class Leader:
    """Member a, which leads an attempt of three."""

    def __init__(
        self,
        recovered: RoundCommit | None = None,
        given: BlobRef | None = None,
        absent: dict[str, str] | None = None,
        refused: dict[str, str] | None = None,
        **federation: Any,
    ) -> None:
        settings = Federation.model_validate({"transport": "mesh", **federation}).model_dump_json()
        plan = RoundPlanMessage(
            key="k", requester="g", model="m", task="t", rounds=1 if given else 2, federation=settings, options={},
            given=given,
        )  # fmt: skip
        contributors = () if given or recovered else tuple(name for name in NAMES if name not in (refused or {}))
        opened = RoundOpen(
            model="m", number=4, term=1, attempt=3, index=1, plan=plan, records={"m": THIRD}, base=OTHER, members=NAMES,
            contributors=contributors, recovered=recovered,
        )  # fmt: skip
        self.election = Election("a", NAMES)
        for name in NAMES:
            self.election.arrived(name)
        self.unable: dict[str, str] = {}
        self.refused = refused or {}
        self.published: list[Message] = []
        policy = RoundsPolicy()
        self.attempt = RoundAttempt(
            opened, self.election, Signatory(cast("Node", Keyless()), lambda: NAMES), policy, DeadlineEstimator(policy),
            unable=self.unable, refused=self.refused, absent=absent or {}, publish=self.published.append,
        )  # fmt: skip
        self.run = asyncio.ensure_future(self.attempt.run())

    async def receive(self, kind: type[Any], names: Sequence[str] = NAMES, **fields: Any) -> list[str]:
        """These members send a message; returns the kinds of all that was published."""
        for name in names:
            self.attempt.receive(name, round_message(kind, self.attempt.opened, **fields))
        await asyncio.sleep(1)
        return [message.kind for message in self.published]

    async def vote(self, names: Sequence[str] = NAMES) -> list[str]:
        """These members vote for an outcome."""
        await asyncio.sleep(1)
        close, statements = self.published[-1], self.attempt._statements
        recovered = self.attempt.opened.recovered
        if isinstance(close, RoundClose):
            cast = vote_for(statements.record(close, OUTCOME))
        else:
            assert recovered is not None
            cast = vote_for(statements.recovered(recovered, OUTCOME))
        return await self.receive(RoundVote, names, **cast.model_dump(exclude=set(RoundMessage.model_fields)))

    async def contribute(self, names: Sequence[str] = NAMES) -> list[str]:
        """These members contribute; returns the kinds of all that was published."""
        contribution = ContributionRef(weight=2.0, blobs=(OTHER,), values={"x": 1.0})
        opening = self.attempt._statements.opening
        return await self.receive(ContributionAvailable, names, opening=opening, contribution=contribution)


def test_an_attempt_closes_is_voted_on_and_committed(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader()
        assert await leader.contribute(["a", "b"]) == ["round_open"]
        assert await leader.contribute(["c"]) == ["round_open", "round_close"]
        assert await leader.vote(["a"]) == ["round_open", "round_close"]
        assert (await leader.vote(["b", "c"]))[-1] == "round_commit"
        assert not leader.run.done(), "it waits until all have adopted the outcome"
        await leader.receive(ModelAdopted)
        commit = await leader.run
        assert (commit.outcome, commit.weights, commit.leader) == (OUTCOME, dict.fromkeys(NAMES, 2.0), "a")

    fake_time(story())


def test_only_its_contributor_rejects_a_contribution_before_the_close(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader()
        await leader.receive(ContributionReceipt, ["b"], contributor="c", refused="no")
        await leader.receive(ContributionReceipt, ["b"], contributor="b", refused="not finite")
        assert await leader.contribute(["a", "c"]) == ["round_open", "round_close"]
        close = leader.published[-1]
        assert isinstance(close, RoundClose)
        assert (set(close.contributions), close.refused) == ({"a", "c"}, {"b": "not finite"})
        leader.run.cancel()

    fake_time(story())


def test_a_contribution_that_a_member_rejects_ends_the_attempt_and_is_left_out_of_the_next(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader()
        await leader.contribute()
        leader.attempt.receive(
            "z", round_message(ContributionReceipt, leader.attempt.opened, contributor="a", refused="x")
        )
        await leader.receive(ContributionReceipt, ["b"], contributor="c", refused="not finite")
        with pytest.raises(AttemptFailed, match="b rejects what c has sent: not finite"):
            await leader.run
        assert leader.refused == {"c": "not finite"}
        again = Leader(refused=leader.refused)
        assert await again.contribute(["a", "b"]) == ["round_open", "round_close"]
        close = again.published[-1]
        assert isinstance(close, RoundClose)
        assert (set(close.contributions), close.refused, close.lost) == ({"a", "b"}, {"c": "not finite"}, {})
        await again.receive(ContributionReceipt, ["b"], contributor="c", refused="its share is false")
        with pytest.raises(AttemptFailed):
            await again.run
        assert again.unable == {"c": "its share is false"}

    fake_time(story())


@pytest.mark.parametrize("reduced", [(), ("a",), ("a", "b")])
def test_in_a_mesh_a_contributor_is_needed_until_all_others_have_reduced(fake_time: Play, reduced: tuple[str]) -> None:
    async def story() -> None:
        leader = Leader(transport="mesh")
        await leader.contribute()
        await leader.receive(ShardReduced, reduced, shard=None)
        leader.election.departed("c")
        leader.attempt.departed("c", "lost: broken")
        await asyncio.sleep(1)
        assert leader.run.done() == (len(reduced) < 2)
        if leader.run.done():
            with pytest.raises(AttemptFailed, match="c lost: broken"):
                await leader.run
        leader.run.cancel()

    fake_time(story())


def test_a_member_that_cannot_vote_is_not_waited_for_and_remembered(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader()
        await leader.receive(RoundDecline, ["c"], reason="no model", can_vote=False)
        assert leader.unable == {"c": "declined: no model"}
        await leader.contribute(["a", "b"])
        await leader.vote(["a", "b"])
        await leader.receive(ModelAdopted, ["a", "b"])
        assert (await leader.run).lost == {"c": "declined: no model"}

    fake_time(story())


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_only_a_keeper_of_shards_is_needed(fake_time: Play, transport: str) -> None:
    async def story() -> None:
        leader = Leader(transport=transport)
        leader.attempt.departed("c", "lost: broken")
        await asyncio.sleep(1)
        if transport == "mesh":
            assert await leader.contribute(["a", "b"]) == ["round_open", "round_close"]
            leader.run.cancel()
        else:
            with pytest.raises(AttemptFailed, match="c lost: broken"):
                await leader.run

    fake_time(story())


def test_a_keeper_whose_shard_is_available_is_needed_nevertheless_without_masks(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader(transport="sharded")
        await leader.receive(ShardReduced, ["c"], shard=OTHER)
        leader.attempt.departed("c", "lost: broken")
        with pytest.raises(AttemptFailed):
            await leader.run

    fake_time(story())


def test_too_few_contributions_fail_without_a_majority_and_are_impossible_with_one(fake_time: Play) -> None:
    async def story() -> None:
        for gone, error in (((), RoundImpossible), (("b", "c"), AttemptFailed)):
            leader = Leader(quorum=3)
            for name in gone:
                leader.election.departed(name)
            await leader.receive(RoundDecline, ["b"], reason="no", can_vote=True)
            await leader.contribute(["a", "c"])
            with pytest.raises(error, match="declined: no" if gone else "2 of 3 needed"):
                await leader.run

    fake_time(story())


def test_a_model_that_is_given_needs_no_contributions(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader(given=OTHER)
        assert await leader.vote(["a", "b"]) == ["round_open", "round_close"]
        await leader.vote(["c"])
        await leader.receive(ModelAdopted)
        assert (await leader.run).weights == {}

    fake_time(story())


def test_a_recovered_outcome_is_committed_in_the_new_term(fake_time: Play) -> None:
    async def story() -> None:
        old = RoundCommit(
            model="m", number=4, term=0, attempt=9, key="k", index=1, rounds=2, leader="c",
        base="0" * 64, transcript="1" * 64, outcome=OUTCOME,
            weights={"c": 1.0}, values={}, late=(), lost={}, refused={}, seconds=1.0,
        )  # fmt: skip
        leader = Leader(recovered=old)
        assert await leader.vote() == ["round_open", "round_commit"]
        await leader.receive(ModelAdopted)
        assert await leader.run == old.model_copy(update={"term": 1, "attempt": 3, "votes": dict.fromkeys(NAMES, b"")})

    fake_time(story())


def test_contributions_to_earlier_rounds_are_named(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader()
        leader.attempt.refuse_stale("b", 3)
        leader.attempt.refuse_stale("c", 4)
        await leader.contribute()
        assert leader.published[-1].refused == {"b": "stale: it contributed to round 3"}  # type: ignore[attr-defined]
        leader.run.cancel()

    fake_time(story())


def test_a_message_concerns_one_attempt(fake_time: Play) -> None:
    async def story() -> None:
        leader = Leader()
        leader.run.cancel()
        declined = round_message(RoundDecline, leader.attempt.opened, reason="no", can_vote=True)
        assert leader.attempt.concerns(declined)
        for changes in ({"term": 2}, {"attempt": 2}, {"model": "n"}):
            assert not leader.attempt.concerns(declined.model_copy(update=changes))

    fake_time(story())
