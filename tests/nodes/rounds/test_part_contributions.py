"""Contributions that are declined, invalid, late, repeated or forged are named in the record, and the round goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import ModelState
from nodes.blob_store import Blob
from nodes.spec import RoundsPolicy
from protocol.messages import ContributionAvailable, Message, Prepare
from protocol.topics import ROUNDS

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
TRANSPORTS = ("mesh", "sharded")
Alter = Callable[[ModelState], ModelState]


def test_a_member_that_declines_is_named(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        refused = list[tuple[str, ...]]()
        group.members["b"].node.on_refusal = lambda *refusal: refused.append(refusal)
        (record,) = await group.run_rounds(options={"declines": "b"})
        assert record.lost == {"b": "declined: it does not want to"}
        assert refused == [("a", "round of walk", "it does not want to")]
        assert record.weights == {"a": 1.0, "c": 3.0}
        await group.require_converged([record])

    tell(story)


def not_finite(state: ModelState) -> ModelState:
    return {**state, "w": state["w"] * torch.nan}


def of_another_shape(state: ModelState) -> ModelState:
    return {**state, "w": state["w"][:2]}


def incomplete(state: ModelState) -> ModelState:
    return {"w": state["w"]}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("alter", "reason"), [(not_finite, "finite"), (of_another_shape, "expected float32[3, 2]"), (incomplete, "b")]
)
def test_an_invalid_state_is_refused_by_its_own_member(
    tell: Tell, make_group: MakeGroup, transport: str, alter: Alter, reason: str
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.members["b"].participant.alter = alter
        refused = list[tuple[str, ...]]()
        group.members["b"].node.on_refusal = lambda *refusal: refused.append(refusal)
        (record,) = await group.run_rounds(transport=transport)
        assert [refusal[:2] for refusal in refused] == [("b", "contribution to walk")]
        assert record.lost == {}
        assert record.refused.keys() == {"b"}
        assert reason in record.refused["b"]
        await group.require_converged([record])

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("alter", [not_finite, of_another_shape, incomplete])
def test_an_invalid_state_is_refused_where_it_enters_if_its_own_member_sends_it(
    tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch, transport: str, alter: Alter
) -> None:
    monkeypatch.setattr("nodes.rounds.worker.require_valid", lambda *_given: None)

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.members["b"].participant.alter = alter
        (record,) = await group.run_rounds(transport=transport)
        assert record.refused.keys() == {"b"}
        assert record.weights.keys() == {"a", "c"}
        await group.require_converged([record])

    tell(story)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_weight_is_refused(tell: Tell, make_group: MakeGroup, weight: float) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.members["c"].participant.weight = weight
        (record,) = await group.run_rounds()
        assert record.refused.keys() == {"c"}

    tell(story)


def test_an_unexpected_error_of_a_method_keeps_nobody_waiting(tell: Tell, make_group: MakeGroup) -> None:
    def fail(task: Any) -> None:
        raise ZeroDivisionError

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.members["b"].participant.before = fail
        (record,) = await group.run_rounds()
        assert "ZeroDivisionError" in record.lost["b"]
        assert record.seconds < 10

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_other_bytes_than_those_of_the_digest_are_refused(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        b, forged = group.members["b"], list[int]()
        keep = b.blob_store.keep

        def keep_forged(blob: Blob) -> None:
            if forged:
                forged.pop()
                blob = Blob(blob.tree, lambda _offset, count: bytes(count))
            keep(blob)

        b.blob_store.keep = keep_forged
        b.participant.before = lambda _task: forged.extend(range(3))
        (record,) = await group.run_rounds(transport=transport)
        assert record.refused.keys() == {"b"}
        assert "b: sent other bytes" in record.refused["b"]

    tell(story)


def test_repeated_stale_unasked_and_forged_contributions_are_named_or_dropped(
    tell: Tell, make_group: MakeGroup
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        b, sent = group.members["b"], list[ContributionAvailable]()
        publish = b.node.publish

        def repeat(topic: str, message: Message) -> None:
            publish(topic, message)
            if isinstance(message, ContributionAvailable):
                sent.append(message)
                publish(topic, message.model_copy(update={"contribution": sent[0].contribution}))
                publish(topic, sent[0])  # of the first round
                publish(topic, message.model_copy(update={"term": message.term + 300}))  # of a later term

        b.node.publish = repeat
        stranger = cluster.forger("zoe")
        await stranger.link(group.members["a"].node)
        stranger.say(ROUNDS, Prepare(term=99), 1)
        records = await group.run_rounds(rounds=2)
        assert records[0].weights.keys() == records[1].weights.keys() == {"a", "b", "c"}
        assert "twice" in records[0].refused["b"]
        assert "round 1" in records[1].refused["b"] or "twice" in records[1].refused["b"]
        assert group.members["a"].node.counts["no member"] == 1
        assert group.leader() == "a"
        await group.require_converged(records)

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_late_member_is_named_and_catches_up(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, rounds=RoundsPolicy(kind="survivors", quorum=2, cold_start=3.0))
        for name in ("a", "b", "c"):
            await group.member(name, seconds=12.0 if name == "c" else 1.0)
        await group.add_driver()
        records = await group.run_rounds(rounds=2, transport=transport)
        assert records[0].late == ("c",)
        assert records[0].weights.keys() == {"a", "b"}
        await group.require_converged(records, 60)

    tell(story)
