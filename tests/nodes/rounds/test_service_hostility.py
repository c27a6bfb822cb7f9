"""Whatever a member says, the others live on: every kind of message with well-formed bodies that are not true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fednet.federated.config import Federation
from nodes.retransmission import REPEATED_MESSAGE_BYTES
from nodes.rounds.participation import MAX_EARLY
from protocol.machines.machine import MAX_EVENTS, MAX_HEARD
from protocol.messages import KINDS, Message
from protocol.messages.election import AcceptedVote, LeaderAnnouncement, Prepare, Promise, RecordRequest
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundOpen
from protocol.messages.secure_sum import (
    AGREEMENT_BYTES,
    CIPHERTEXT_BYTES,
    PUBLIC_KEYS_BYTES,
    SHARE_BYTES,
    KeyAdvertisement,
)
from protocol.security.budget import ALLOWANCES, Cost
from protocol.topics import EXCHANGE, HEARTBEATS, KINDS_BY_TOPIC, LARGEST, PRESENCE, PROGRESS, QUERIES, ROUNDS, inbox
from tests.cases import covering

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

LIAR = "c"
"""Owns the terms 3, 6, 9, ..."""

MESSAGE: dict[str, Any] = {**KINDS}
BLOB = BlobRef(digest="ab" * 32, size=8)
HUGE = BlobRef(digest="cd" * 32, size=LARGEST)
TERM = 9
"""Of the liar once it has claimed 6 and not said so to its own election, which then claims the next one."""
LAST_TERM = LARGEST - LARGEST % 3


def plan(**changes: Any) -> RoundPlanMessage:
    fields: dict[str, Any] = {
        "key": "lie", "requester": "driver", "model": "walk", "task": "step", "rounds": 3,
        "federation": Federation().model_dump_json(), "options": {},
    }  # fmt: skip
    return RoundPlanMessage(**(fields | changes))


def opened(**changes: Any) -> RoundOpen:
    fields: dict[str, Any] = {
        "model": "walk", "number": 2, "term": TERM, "attempt": 1, "index": 1, "plan": plan(),
        "records": {"walk": record(number=1)}, "base": BLOB, "members": ("a", "b", "c"), "contributors": ("a", "b"),
    }  # fmt: skip
    return RoundOpen(**(fields | changes))


def unknown_model(**changes: Any) -> RoundOpen:
    records = {"nosuch": record(model="nosuch", number=1)}
    return opened(**{"model": "nosuch", "plan": plan(model="nosuch"), "records": records, **changes})


def record(**changes: Any) -> RoundCommit:
    fields: dict[str, Any] = {
        "model": "walk", "number": 2, "term": TERM, "attempt": 1, "key": "lie", "index": 1, "rounds": 3,
        "leader": "zoe", "base": BLOB.digest, "outcome": BLOB, "transcript": BLOB.digest, "weights": {"zoe": 1.0},
        "values": {}, "late": (), "lost": {}, "refused": {}, "seconds": 0.0, "votes": {"a": b"", "b": b""},
    }  # fmt: skip
    return RoundCommit(**(fields | changes))


def in_round(kind: str, **fields: Any) -> Iterator[Message]:
    """A message about a round that is open, about another one of the same attempt, and about none."""
    for about in (
        {"model": "walk", "number": 2}, {"model": "walk", "number": 7}, {"model": "nosuch", "number": LARGEST},
    ):  # fmt: skip
        for attempt in (1, LARGEST):
            yield MESSAGE[kind](**about, term=TERM, attempt=attempt, **fields)


REDUCED = MESSAGE["shard_reduced"](model="walk", number=2, term=TERM, attempt=1, transcript="1" * 64, shard=HUGE)
KEYS: dict[str, Any] = {
    "opening": "0" * 64, "public_keys": bytes(PUBLIC_KEYS_BYTES), "weight": 1e-300, "values": {},
}  # fmt: skip
ADVERTISEMENT = KeyAdvertisement(model="walk", number=2, term=TERM, attempt=1, **KEYS)
CONTRIBUTION = ContributionRef(weight=1e300, blobs=(HUGE,) * 256, values={"loss": float("nan")})

PLANS: list[tuple[dict[str, Any], int]] = [
    ({"model": "nosuch"}, 0), ({"task": "nosuch"}, 0), ({"federation": "no JSON"}, 0),
    ({"rounds": 2}, LARGEST),
    ({"federation": Federation(quorum=10**9).model_dump_json()}, 0), ({"given": HUGE, "rounds": 1}, 0),
    ({"federation": '{"rule": {"kind": "krum", "byzantine": 99}}'}, 0), ({"federation": '{"secure": {}}'}, 0),
    ({"options": {"declines": "a", "declines too": "b"}}, 0),
]  # fmt: skip

LIES: dict[str, list[Message]] = {
    "rounds_request": [
        MESSAGE["rounds_request"](plan=plan(key=f"lie {number}", requester=LIAR, **changes), after=after)
        for number, (changes, after) in enumerate(PLANS)
    ],
    "prepare": [Prepare(term=LAST_TERM), Prepare(term=0), Prepare(term=1)],
    "promise": [
        Promise(
            term=term,
            records={"nosuch": record(model="nosuch", number=LARGEST, outcome=HUGE)},
            accepted={"nosuch": AcceptedVote(plan=plan(model="nosuch"), record=record(model="nosuch"))},
        )
        for term in (1, 2, TERM, LARGEST)
    ],
    "leader_announcement": [
        LeaderAnnouncement(term=TERM, attempt=0, records={"nosuch": record(model="nosuch", number=7, outcome=HUGE)}),
        LeaderAnnouncement(term=LAST_TERM, attempt=LARGEST, records={}),
    ],
    "round_open": [
        unknown_model(),
        unknown_model(plan=plan(model="nosuch", federation="no JSON"), attempt=2),
        opened(attempt=3, members=("a", "b", "zoe")),
        opened(attempt=4, plan=plan(requester="ghost", federation='{"secure": {}}')),
        opened(attempt=4, contributors=("a",)),
        opened(attempt=5, recovered=record(), contributors=()),
        opened(attempt=6, plan=plan(given=HUGE, rounds=1, requester="ghost"), contributors=()),
        opened(attempt=7, plan=plan(federation='{"participation": 7}')),
        opened(attempt=8, number=LARGEST, records={"walk": record(number=LARGEST - 1, outcome=HUGE)}, base=HUGE),
    ],
    "contribution_available": [*in_round("contribution_available", opening="0" * 64, contribution=CONTRIBUTION)],
    "round_decline": [*in_round("round_decline", reason="x" * 500, can_vote=False)],
    "contribution_receipt": [*in_round("contribution_receipt", contributor="zoe", refused="why not")],
    "round_close": [
        *in_round(
            "round_close", contributions={"zoe": CONTRIBUTION}, signatures={}, late=("yan",), lost={},
            refused={"a": "no"}, seconds=1.0,
        )
    ],
    "shard_reduced": [*in_round("shard_reduced", transcript="1" * 64, shard=HUGE)],
    "false_shard": [
        *in_round("false_shard", owner=LIAR, reduced=REDUCED, chunk=LARGEST),
        *in_round("false_shard", owner="a", reduced=REDUCED, chunk=0),
    ],
    "round_vote": [*in_round("round_vote", base="0" * 64, outcome=HUGE, transcript="1" * 64, record="2" * 64)],
    "round_commit": [record(), record(model="nosuch", number=LARGEST), record(attempt=LARGEST, leader=LIAR)],
    "model_adopted": [*in_round("model_adopted")],
    "rounds_aborted": [MESSAGE["rounds_aborted"](term=LARGEST, key="k", lost={"zoe": "gone"}, reason="because")],
    "record_request": [
        RecordRequest(model=model, after=after) for model in ("walk", "nosuch") for after in (0, LARGEST)
    ],
    "key_advertisement": [
        *in_round("key_advertisement", **KEYS)
    ],
    "share_distribution": [
        *in_round("share_distribution", advertisements={"yan": ADVERTISEMENT, "zoe": ADVERTISEMENT})
    ],
    "equivocation": [*in_round("equivocation", advertiser="b", first=ADVERTISEMENT, second=ADVERTISEMENT)],
    "encrypted_share": [*in_round("encrypted_share", ciphertext=bytes(CIPHERTEXT_BYTES))],
    "shares_received": [*in_round("shares_received")],
    "consistency_check": [*in_round("consistency_check", signature=bytes(64))],
    "share_reveal": [*in_round("share_reveal", shares=bytes(AGREEMENT_BYTES + SHARE_BYTES))],
    "query_request": [
        MESSAGE["query_request"](
            query=LARGEST, oldest_open=LARGEST, task="nosuch", inputs={"x": torch.zeros(0)}, options={"o": None}, ttl=0
        )
    ],
    "query_answer": [MESSAGE["query_answer"](query=LARGEST, outputs={}, seconds=1e300)],
    "query_refusal": [MESSAGE["query_refusal"](query=0, reason="")],
    "retransmit_request": [
        MESSAGE["retransmit_request"](topic="other/", first=LARGEST - 1, last=LARGEST, incarnation=LARGEST)
    ],
    "retransmit_unavailable": [MESSAGE["retransmit_unavailable"](topic="other/", first=1, last=1024)],
    "chunk_request": [MESSAGE["chunk_request"](key=BLOB.digest, total=LARGEST, ranges=((0, 1),))],
    "chunk": [MESSAGE["chunk"](key=BLOB.digest, total=LARGEST, offset=0, data=torch.zeros(1, dtype=torch.uint8))],
    "chunk_unavailable": [MESSAGE["chunk_unavailable"](key=BLOB.digest, total=0)],
    "group_key_grant": [MESSAGE["group_key_grant"](epoch=LARGEST, key=bytes(32))],
    "capabilities": [MESSAGE["capabilities"](text=text, ready=True) for text in ("", "no JSON", "[1]", '{"card": 7}')],
    "progress_report": [MESSAGE["progress_report"](phase="[/x]", done=LARGEST, total=0, values={})],
    "exchange_request": [MESSAGE["exchange_request"](key="k", task="nosuch", options={})],
    "offer": [
        MESSAGE["offer"](origin=origin, subject="s", version=LARGEST, key="nosuch", embeddings=torch.zeros(64, 4096))
        for origin in ("zoe", LIAR, "a")
    ],
    "offer_list": [MESSAGE["offer_list"](key="nosuch", versions={"s": LARGEST}, values={}, bytes_sent=LARGEST)],
    "exchange_decline": [MESSAGE["exchange_decline"](key="nosuch", reason="")],
    "offer_verdict": [MESSAGE["offer_verdict"](key="nosuch", origin="zoe", refused={"s": "x"})],
    "offer_request": [MESSAGE["offer_request"](origin="zoe", versions={"s": LARGEST})],
    "hello": [], "welcome": [], "heartbeat": [], "goodbye": [], "retransmission": [],
}  # fmt: skip
"""Well-formed messages of every kind; those of the membership are in `tests/nodes/test_node_hostility.py`."""

FAULTY = {"round_open", "contribution_receipt", "round_close", "share_distribution"}
"""Kinds of which some of these contradict what their receivers know."""


def topics_of(message: Message) -> list[str]:
    shared = [topic for topic in (ROUNDS, EXCHANGE, QUERIES, PROGRESS, PRESENCE, HEARTBEATS)
              if message.kind in KINDS_BY_TOPIC[topic]]  # fmt: skip
    return shared[:1] or [inbox("a"), inbox("b")]


def say(liar: Any, message: Message) -> None:
    for topic in topics_of(message):
        liar.node.publish(topic, message)


def test_every_kind_is_lied_with() -> None:
    assert LIES.keys() == KINDS.keys()
    assert all(message.kind == kind for kind, messages in LIES.items() for message in messages)


@pytest.mark.parametrize(("kind", "during"), covering([kind for kind in LIES if LIES[kind]], [False, True], together=1))
def test_whatever_a_member_says_the_others_live_on(
    tell: Tell, make_group: MakeGroup, kind: str, *, during: bool
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds()
        liar, others = group.members[LIAR], [group.members[name] for name in ("a", "b")]
        if during:
            say(liar, Prepare(term=6))
            await group.settle(1)
            assert group.leader() == LIAR
            records = liar.service.store.latest()
            say(liar, opened(records=records, base=records["walk"].outcome))
        for message in LIES[kind]:
            say(liar, message)
            await group.settle(0.5)
        await group.settle(5)
        for member in others:
            assert not member.node._ends, f"{member.node.name}: {member.node._failure!r}"
            assert not during or kind not in FAULTY or member.node.faults[LIAR] > 0
        group.crash(LIAR)
        await group.settle(15)
        records = await group.run_rounds("honest", quorum=2)
        assert records[0].weights.keys() == {"a", "b"}
        assert not any(member.node._ends for member in others)

    tell(story)


def test_records_that_a_peer_requests_again_and_again_it_gets_up_to_its_budget(
    tell: Tell, make_group: MakeGroup
) -> None:
    """A request of 200 bytes is answered with hundreds of records, each encoded and signed."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds(rounds=3)
        leader = group.members[group.leader()]
        most = ALLOWANCES[Cost.REPEATED].burst / REPEATED_MESSAGE_BYTES
        told = leader.node._publisher.outbox.latest
        for request in (
            MESSAGE["rounds_request"](plan=plan(key="k", requester="b"), after=0), RecordRequest(model="walk", after=0),
        ):  # fmt: skip
            before = told[inbox("b")]
            for _ in range(4000):
                leader.service._receive("b", request)
            assert told[inbox("b")] - before <= most
        assert leader.node.faults["b"] > 0
        assert not leader.node._ends

    tell(story)


def test_what_a_member_says_again_and_again_in_rounds_takes_bounded_memory(tell: Tell, make_group: MakeGroup) -> None:
    """Of an attempt under way, of a later one and of none, to a member and to the leader."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds()
        leader = group.members[group.leader()]
        member = next(each for name, each in group.members.items() if name not in {LIAR, leader.node.name})
        group.members["a"].participant.before = lambda _task: flood()

        def flood() -> None:
            now = member.service._participation.current.opened
            for attempt in (now.attempt, now.attempt + 1, 1):
                fields = {"model": "walk", "number": now.number, "term": now.term, "attempt": attempt}
                offer = MESSAGE["contribution_available"](**fields, opening="0" * 64, contribution=CONTRIBUTION)
                proof = {"advertiser": "b", "first": ADVERTISEMENT, "second": ADVERTISEMENT}
                for message in (offer, MESSAGE["equivocation"](**fields, **proof)):
                    for _ in range(3 * MAX_EVENTS // 2):
                        for each in (leader, member):
                            each.service._receive(LIAR, message)

        asking = asyncio.ensure_future(group.run_rounds("flooded", quorum=2))
        await group.settle(10)
        for each in (leader, member):
            machine = each.service._participation.current.machine
            assert sum(getattr(entry.event, "sender", "") == LIAR for entry in machine.log) <= MAX_HEARD
            assert len(each.service._participation._early.get(LIAR, ())) <= MAX_EARLY
        assert len(leader.service._leading._machine.log) <= MAX_HEARD
        group.crash(LIAR)
        assert len(await asking) == 1
        assert not any(each.node._ends for each in group.members.values())

    tell(story)
