"""What a member signs is believed as its own, with keys and without, and a record with the votes of a majority."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.certificates import vote_for
from protocol.machines.signatory import Signatory
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import RoundCommit, RoundDecline, RoundVote

MakeSignatory = Callable[..., Signatory]
RECORD = RoundCommit(
    model="m", number=3, term=1, attempt=2, key="k", index=3, rounds=9, leader="a", base="0" * 64,
    outcome=BlobRef(digest="1" * 64, size=7), transcript="2" * 64, weights={"a": 1.0}, values={}, late=(), lost={},
    refused={}, seconds=0.5,
)  # fmt: skip


@pytest.mark.parametrize("keyed", [True, False])
def test_a_signed_message_is_its_senders(make_signatory: MakeSignatory, *, keyed: bool) -> None:
    a, b = make_signatory("a", keyed=keyed), make_signatory("b", keyed=keyed)
    vote: RoundVote = a.signed(vote_for(RECORD))
    assert len(vote.signature) == 64 * keyed
    assert a.has_signed("a", vote, vote.signature)
    assert b.has_signed("a", vote, vote.signature)
    assert b.has_signed("c", vote, vote.signature) is not keyed, "without keys a name is all there is"
    changed = vote.model_copy(update={"record": "9" * 64})
    assert b.has_signed("a", changed, vote.signature) is not keyed
    assert not b.has_signed("a", vote, b"x" * 64)


@pytest.mark.parametrize("keyed", [True, False])
def test_two_of_three_certify(make_signatory: MakeSignatory, *, keyed: bool) -> None:
    votes: dict[str, Any] = {}
    for name in "ab":
        assert not make_signatory("c", keyed=keyed).is_certified(RECORD.model_copy(update={"votes": dict(votes)}))
        votes[name] = make_signatory(name, keyed=keyed).signed(vote_for(RECORD)).signature
    judge, certified = make_signatory("c", keyed=keyed), RECORD.model_copy(update={"votes": votes})
    assert judge.is_certified(certified)
    assert judge.is_certified(certified), "it is remembered"
    forged = certified.model_copy(update={"weights": {"a": 2.0}})
    assert judge.is_certified(forged) is not keyed
    assert judge.valid_votes(forged).keys() == (set() if keyed else {"a", "b"})


def test_a_message_without_a_signature_has_none_to_check(make_signatory: MakeSignatory) -> None:
    declined = RoundDecline(model="m", number=1, term=1, attempt=1, reason="no", can_vote=True)
    assert not make_signatory("a", keyed=True).has_signed("b", declined, b"")
    assert make_signatory("a", keyed=False).has_signed("b", declined, b"")
