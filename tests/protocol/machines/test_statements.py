"""What counts as an answer to an opening, as a true close, as a proof of a lie and as a vote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.certificates import vote_for
from protocol.machines.signatory import Signatory
from protocol.machines.statements import AttemptStatements
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import ContributionAvailable, RoundClose, RoundOpen
from protocol.messages.secure_sum import PUBLIC_KEYS_BYTES, Equivocation, KeyAdvertisement
from protocol.rounds import round_message, unsigned

MakeSignatory = Callable[..., Signatory]

NAMES = ("a", "b", "c")
BLOB = BlobRef(digest="0" * 64, size=9)
OPENED = RoundOpen(
    model="m", number=1, term=1, attempt=1, index=1, records={}, base=BLOB, members=NAMES, contributors=("a", "b"),
    plan=RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=1, federation="{}", options={}),
)  # fmt: skip


class Member:
    """One member's statements in the attempt."""

    def __init__(self, make: MakeSignatory, name: str, opened: RoundOpen = OPENED, *, keyed: bool = True) -> None:
        self.signatory = make(name, keyed=keyed)
        self.statements = AttemptStatements(self.signatory, opened, "a")

    def offer(self, weight: float = 1.0) -> ContributionAvailable:
        contribution = ContributionRef(weight=weight, blobs=(BLOB,), values={"loss": float("nan")})
        opening = self.statements.opening
        return self.signatory.signed(
            round_message(ContributionAvailable, OPENED, opening=opening, contribution=contribution)
        )

    def advertise(self, weight: float = 1.0) -> KeyAdvertisement:
        advertisement = round_message(
            KeyAdvertisement, OPENED, opening=self.statements.opening, public_keys=bytes(PUBLIC_KEYS_BYTES),
            weight=weight, values={},
        )  # fmt: skip
        return self.signatory.signed(advertisement)


def close(offers: dict[str, ContributionAvailable], **changes: Any) -> RoundClose:
    fields = {
        "contributions": {name: each.contribution for name, each in offers.items()},
        "signatures": {name: each.signature for name, each in offers.items()},
        "late": (), "lost": {}, "refused": {}, "seconds": 1.0,
    } | changes  # fmt: skip
    return round_message(RoundClose, OPENED, **fields)


def test_an_answer_is_signed_and_to_this_opening(make_signatory: MakeSignatory) -> None:
    a, b = Member(make_signatory, "a"), Member(make_signatory, "b")
    told_otherwise = Member(make_signatory, "b", OPENED.model_copy(update={"contributors": NAMES}))
    assert a.statements.refusal("b", b.offer()) == ""
    assert a.statements.refusal("b", b.advertise()) == ""
    assert "another opening" in a.statements.refusal("b", told_otherwise.offer())
    assert "signature" in a.statements.refusal("c", b.offer())
    assert "signature" in a.statements.refusal("b", b.offer().model_copy(update={"signature": b""}))


def test_a_close_names_what_was_offered(make_signatory: MakeSignatory) -> None:
    a, b, c = (Member(make_signatory, name) for name in NAMES)
    offers = {"a": a.offer(), "b": b.offer(2.0)}
    true = close(offers)
    assert c.statements.unfounded(true) == []
    heavier = {**true.contributions, "b": true.contributions["b"].model_copy(update={"weight": 3.0})}
    assert c.statements.unfounded(close(offers, contributions=heavier)) == ["b"]
    assert c.statements.unfounded(close(offers | {"c": c.offer()})) == ["c"], "it was not to contribute"


def test_two_advertisements_for_one_opening_are_a_proof_where_there_are_keys(make_signatory: MakeSignatory) -> None:
    a, b = Member(make_signatory, "a"), Member(make_signatory, "b")
    told_otherwise = Member(make_signatory, "b", OPENED.model_copy(update={"contributors": NAMES}))
    unsigned = Member(make_signatory, "b", keyed=False)

    def proves(first: KeyAdvertisement, second: KeyAdvertisement, whose: str = "b", judge: Member = a) -> bool:
        accused = round_message(Equivocation, OPENED, advertiser=whose, first=first, second=second)
        return judge.statements.is_proof(accused)

    assert proves(b.advertise(1.0), b.advertise(2.0))
    assert not proves(b.advertise(1.0), b.advertise(1.0))
    assert not proves(b.advertise(1.0), b.advertise(2.0), "c")
    assert not proves(b.advertise(1.0), told_otherwise.advertise(2.0)), "the leader may have lied"
    keyless = Member(make_signatory, "a", keyed=False)
    assert not proves(unsigned.advertise(1.0), unsigned.advertise(2.0), judge=keyless)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_vote_is_for_the_record_of_the_close(make_signatory: MakeSignatory, *, keyed: bool) -> None:
    a, b = (Member(make_signatory, name, keyed=keyed) for name in "ab")
    offers = {"a": a.offer(), "b": b.offer()}
    outcome = BlobRef(digest="1" * 64, size=9)
    vote = b.statements.vote(b.statements.record(close(offers), outcome))
    for offered, left, same in ((offers, outcome, True), ({"a": offers["a"]}, outcome, False), (offers, BLOB, False)):
        assert (unsigned(vote) == vote_for(a.statements.record(close(offered), left))) is same
    assert a.signatory.has_signed("b", vote, vote.signature)
    assert a.signatory.has_signed("c", vote, vote.signature) is not keyed


def test_a_recovered_record_is_that_of_the_new_attempt(make_signatory: MakeSignatory) -> None:
    a = Member(make_signatory, "a", OPENED.model_copy(update={"term": 4}))
    old = Member(make_signatory, "b").statements.record(close({}), BLOB)
    again = a.statements.recovered(old.model_copy(update={"votes": {"b": b"b" * 64}}), BLOB)
    assert again == old.model_copy(update={"term": 4})
