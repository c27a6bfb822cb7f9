"""Members with keys, one of which lies: nobody learns a contribution, and nobody adopts what no majority voted for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.federated.packed_state import PackedState
from fednet.privacy.unmasking import Unmasking
from nodes.blob_store import Blob
from protocol.messages import LeaderAnnouncement, Message
from protocol.messages.round_values import BlobRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundOpen
from protocol.topics import ROUNDS

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
Lie = Callable[[str, Message], Message]

FIVE = ("a", "b", "c", "d", "e")
SECURE = {"clip": 64.0}
PLAN = RoundPlanMessage(key="p", requester="e", model="walk", task="step", rounds=1, federation="{}", options={})
SECRET = {"w": torch.tensor([[0.1, -0.2], [0.3, 0.4], [-0.5, 0.6]]), "b": torch.full((1,), 5.0)}


EVIL = PackedState.of({"w": torch.full((3, 2), 666.0), "b": torch.full((1,), 5.0)})
EVIL_BLOB = BlobRef(digest=EVIL.tree.root, size=EVIL.tree.size)


def tells_otherwise(group: Any, liar: str, kind: str, lie: Lie) -> None:
    """A member says a message of a kind to every other one on its own, as `lie(name, message)` has it.

    A topic is the same to all that subscribe to it; whoever holds their connections, or a relay, can do otherwise.
    """
    node = group.members[liar].node
    publish = node.publish

    def lying(topic: str, message: Message) -> None:
        if message.kind != kind or topic != ROUNDS:
            publish(topic, message)
            return
        for name in sorted({*group.members} - {liar}):
            said = lie(name, message)
            if hasattr(said, "signature"):
                said = group.members[liar].service._signatory.signed(said)
            asyncio.get_running_loop().call_soon(group.members[name].service._contained, liar, said)

    node.publish = lying


def sums_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The survivors of every sum that anybody has unmasked."""
    seen: list[tuple[str, ...]] = []

    def unmasking(survivors: Any, reveals: Any) -> Unmasking:
        result = Unmasking(survivors, reveals)
        seen.append(survivors.survivors)
        return result

    monkeypatch.setattr("nodes.rounds.secure_sum.Unmasking", unmasking)
    return seen


def test_a_member_that_advertises_another_weight_to_each_is_proven_to_lie_and_left_out(
    tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sums_seen(monkeypatch)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        group.members["b"].participant.alter = lambda _state: SECRET
        tells_otherwise(
            group, "e", "key_advertisement",
            lambda name, said: said.model_copy(update={"weight": 1e-3 if name == "b" else 1e12}),
        )  # fmt: skip
        (record,) = await group.run_rounds(secure=SECURE)
        assert sorted(record.weights) == ["a", "b", "c", "d"]
        assert "advertised different keys or weights" in record.lost["e"]
        assert set(seen) == {("a", "b", "c", "d")}, "no sum with a false weight was ever opened"

    tell(story)


def test_a_leader_that_tells_a_member_another_clip_opens_nothing(
    tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sums_seen(monkeypatch)

    def other_clip(name: str, said: Any) -> Any:
        federation = json.loads(said.plan.federation)
        federation["secure"]["clip"] = 1.0 if name == "b" else 1e6
        return said.model_copy(update={"plan": said.plan.model_copy(update={"federation": json.dumps(federation)})})

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        await group.settle()
        assert group.leader() == "a"
        tells_otherwise(group, "a", "round_open", other_clip)
        rounds = asyncio.ensure_future(group.run_rounds(secure=SECURE))
        await group.settle(30)
        rounds.cancel()
        assert seen == []
        assert not any(member.service.store.records for member in group.members.values())

    tell(story)


@pytest.mark.parametrize("keyed", [True, False])
def test_nobody_adopts_a_model_that_no_majority_has_voted_for(
    tell: Tell, make_group: MakeGroup, *, keyed: bool
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=keyed)
        await group.start()
        (record,) = await group.run_rounds()
        await group.settle()
        e = group.members["e"]
        e.blob_store.keep(Blob(EVIL.tree, EVIL.bytes_at))
        honest: RoundCommit = e.service.store.records[-1]
        false = honest.model_copy(update={"number": 7, "outcome": EVIL_BLOB, "votes": {"e": honest.votes["e"]}})
        for said in (
            LeaderAnnouncement(term=10, attempt=0, records={"walk": false}),
            false.model_copy(update={"term": 10}),
            RoundOpen(
                model="walk", number=8, term=10, attempt=1, index=1, plan=PLAN,
                records={"walk": false}, base=EVIL_BLOB, members=FIVE, contributors=(),
            ),
        ):  # fmt: skip
            e.node.publish(ROUNDS, said)
            await group.settle()
        e.node.tell("driver", false)
        await group.settle()
        assert group.digests() == {record.digest}
        for name in "abcd":
            assert group.members[name].node.counts["uncertified"] == 3
        assert group.driver.counts["uncertified"] == 1

    tell(story)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_leader_does_not_recover_what_no_majority_can_have_voted_for(
    tell: Tell, make_group: MakeGroup, *, keyed: bool
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=keyed)
        await group.start()
        (record,) = await group.run_rounds()
        await group.settle()
        a = group.members["a"]
        assert group.leader() == "a"
        a.blob_store.keep(Blob(EVIL.tree, EVIL.bytes_at))
        honest: RoundCommit = a.service.store.records[-1]
        plan = PLAN.model_copy(update={"key": honest.key, "rounds": honest.rounds})
        a.node.publish(
            ROUNDS,
            RoundOpen(
                model="walk", number=2, term=1, attempt=9, index=1, plan=plan, records={"walk": honest},
                base=honest.outcome, members=FIVE, contributors=(),
                recovered=honest.model_copy(update={"number": 2, "outcome": EVIL_BLOB, "base": honest.outcome.digest}),
            ),
        )  # fmt: skip
        await group.settle(20)
        assert group.digests() == {record.digest}

    tell(story)


@pytest.mark.parametrize("requester", ["ghost", "b"])
def test_rounds_that_a_leader_opens_in_anothers_name_end_nobody(
    tell: Tell, make_group: MakeGroup, requester: str
) -> None:
    """Who is told of their outcome may be somebody whose key nobody has. Requests name their sender or are dropped."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        leader = group.members[group.leader()].service
        assert leader.request(PLAN.model_copy(update={"key": "false", "requester": requester}), "a")
        await group.settle(20)
        assert not any(member.node._ends for member in group.members.values())
        assert {each.key for member in group.members.values() for each in member.service.store.records} == {"false"}
        (record,) = await group.run_rounds("honest")
        assert sorted(record.weights) == sorted(FIVE)

    tell(story)
