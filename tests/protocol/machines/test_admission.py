"""Which of the members' messages about rounds are taken in: by sender, by certificate, by the attempt that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.certificates import vote_for
from protocol.machines.admission import refusal
from protocol.machines.signatory import Signatory
from protocol.messages import LeaderAnnouncement, Message, ModelAdopted, Promise, RecordRequest, RoundsRequest
from protocol.messages.round_values import BlobRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundDecline, RoundOpen
from protocol.rounds import round_message

MakeSignatory = Callable[..., Signatory]
BLOB = BlobRef(digest="ab" * 32, size=8)
PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=3, federation="{}", options={})
OPENED = RoundOpen(
    model="m", number=1, term=1, attempt=1, index=1, plan=PLAN, records={}, base=BLOB,
    members=("a", "b", "c"), contributors=("a", "b"),
)  # fmt: skip
RECORD = RoundCommit(
    model="m", number=1, term=1, attempt=1, key="k", index=1, rounds=3, leader="a", base=BLOB.digest, outcome=BLOB,
    transcript="cd" * 32, weights={"a": 1.0, "b": 1.0}, values={}, late=(), lost={}, refused={}, seconds=0.0,
)  # fmt: skip
FOLLOWING = OPENED.model_copy(update={"number": 2, "index": 2})


def certified(make: MakeSignatory, *names: str, keyed: bool) -> RoundCommit:
    votes = {name: make(name, keyed=keyed).signed(vote_for(RECORD)).signature for name in names}
    return RECORD.model_copy(update={"votes": votes})


def stating(record: RoundCommit) -> list[Message]:
    """Every message that states a record as committed."""
    records = {"m": record}
    return [
        record,
        Promise(term=1, records=records, accepted={}),
        LeaderAnnouncement(term=1, attempt=1, records=records),
        FOLLOWING.model_copy(update={"records": records}),
    ]


@pytest.mark.parametrize("keyed", [True, False])
def test_a_record_counts_with_the_votes_of_a_majority_only(make_signatory: MakeSignatory, *, keyed: bool) -> None:
    signatory = make_signatory("a", keyed=keyed)
    for names, admitted in (("b", False), ("bz", False), ("bc", True)):
        record = certified(make_signatory, *names.replace("z", ""), keyed=keyed)
        record = record.model_copy(update={"votes": {**record.votes, **dict.fromkeys(names, b"") | record.votes}})
        for message in stating(record):
            refused = refusal(signatory, "a", "b", message, None)
            assert (refused is None) == admitted, (message.kind, names)
            assert admitted or (refused and refused.kind == "uncertified" and not refused.is_fault)


def test_what_a_member_says_to_itself_was_checked(make_signatory: MakeSignatory) -> None:
    signatory = make_signatory("a", keyed=True)
    assert all(refusal(signatory, "a", "a", message, None) is None for message in stating(RECORD))


@pytest.mark.parametrize("message", [RoundsRequest(plan=PLAN), RecordRequest(model="m", after=0), OPENED])
def test_others_than_members_ask_and_say_nothing_else(make_signatory: MakeSignatory, message: Any) -> None:
    refused = refusal(make_signatory("a"), "a", "g", message, None)
    assert (refused and refused.kind) == ("no member" if message is OPENED else None)


def test_an_opening_names_configured_members_only(make_signatory: MakeSignatory) -> None:
    opened = OPENED.model_copy(update={"members": ("a", "b", "z")})
    refused = refusal(make_signatory("a"), "a", "b", opened, None)
    assert refused is not None
    assert refused.is_fault
    assert "names z" in refused.reason


def test_a_message_about_the_present_attempt_agrees_with_it(make_signatory: MakeSignatory) -> None:
    signatory, part = make_signatory("a"), (OPENED.model_copy(update={"members": ("a", "c")}), "a")
    declined = round_message(RoundDecline, OPENED, reason="", can_vote=True)
    refused = refusal(signatory, "a", "b", declined, part)
    assert refused is not None
    assert refused.is_fault
    assert "for members of the round" in refused.reason
    later = declined.model_copy(update={"attempt": 2})
    assert refusal(signatory, "a", "b", later, part) is None
    assert refusal(signatory, "a", "b", declined, None) is None
    assert refusal(signatory, "a", "b", round_message(ModelAdopted, OPENED), part) is None
