"""A machine's story brings another one to the same state, anywhere, with the same instructions."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest

from protocol.machines.attempt import RoundAttempt
from protocol.machines.attempt_values import AttemptFailed, AttemptTerms, Phase
from protocol.machines.events import Begin, Departed, Heard
from protocol.machines.machine import Tick
from protocol.machines.participant import RoundParticipant
from protocol.machines.participant_values import BasePrepared, ContributionMade, MemberRejected, Stage
from protocol.machines.signatory import Signatory
from protocol.machines.story import packed, retold
from protocol.messages import RoundDecline
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import RoundOpen
from protocol.quorum import QuorumPolicy
from protocol.rounds import round_message

MEMBERS = ("a", "b", "c")
BASE = BlobRef(digest="2" * 64, size=1)
PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=2, federation="{}", options={"lr": 0.5})
OPENED = RoundOpen(
    model="m", number=1, term=1, attempt=1, index=1, plan=PLAN, records={}, base=BASE, members=("a", "b", "c"),
    contributors=("a", "b", "c"),
)  # fmt: skip
MakeSignatory = Callable[..., Signatory]


def test_an_attempt_that_failed_is_replayed_without_keys(make_signatory: MakeSignatory) -> None:
    terms = AttemptTerms(QuorumPolicy(), MEMBERS, MEMBERS, sharded=True, absent={"d": "gone"})
    attempt = RoundAttempt("a", OPENED, terms, make_signatory("a", keyed=True), 5.0)
    participant = RoundParticipant("b", OPENED, "a", make_signatory("b", keyed=True), 1)
    instructions = [attempt.handle(Begin(), 5.0)]
    participant.handle(Begin(), 0.0)
    participant.handle(BasePrepared(), 0.0)
    (publish,) = participant.handle(ContributionMade(ContributionRef(weight=1.0, blobs=(BASE,), values={})), 0.0)
    offer = publish.message  # type: ignore[attr-defined]
    declined = round_message(RoundDecline, OPENED, reason="no", can_vote=True)
    for now, event in enumerate(
        (Heard("b", offer), Heard("a", offer), Heard("c", declined), Tick(), Departed("b", "lost")), 6
    ):
        instructions.append(attempt.handle(event, now))
    again, said = retold(packed(attempt))
    assert isinstance(again, RoundAttempt)
    assert said[:-1] == instructions[:-1]
    assert said[-1][0] == AttemptFailed("b lost")
    assert (again.state, list(again.log)) == (Phase.FAILED, list(attempt.log))


def test_a_part_that_was_left_is_replayed_without_keys(make_signatory: MakeSignatory) -> None:
    part = RoundParticipant("b", OPENED, "a", make_signatory("b", keyed=True), 2)
    said = [
        part.handle(event, 1.0)
        for event in (
            Begin(),
            BasePrepared(),
            ContributionMade(ContributionRef(weight=1.0, blobs=(BASE,), values={})),
            MemberRejected("c", "not finite"),
        )
    ]
    again, retold_ = retold(packed(part))
    assert retold_[:3] == said[:3]
    assert (again.state, list(again.log)) == (Stage.ABANDONED, list(part.log))


def test_a_story_without_its_beginning_is_not_replayed(make_signatory: MakeSignatory) -> None:
    part = RoundParticipant("b", OPENED, "a", make_signatory("b"), 2)
    part.handle(Begin(), 0.0)
    part.handle(BasePrepared(), 0.0)
    part.log.popleft()
    with pytest.raises(ValueError, match="its beginning is no longer known"):
        retold(packed(part))
    with pytest.raises((ValueError, msgpack.UnpackException)):
        retold(b"\xc1")


def test_a_story_holds_a_bounded_number_of_answers(
    make_signatory: MakeSignatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.machines.signatory.MAX_ANSWERS", 0)
    part = RoundParticipant("b", OPENED, "a", make_signatory("b"), 2)
    for event in (Begin(), BasePrepared(), ContributionMade(ContributionRef(weight=1.0, blobs=(BASE,), values={}))):
        part.handle(event, 1.0)
    assert part.signatory.answers == []
    with pytest.raises(ValueError, match="more questions about signatures than answers"):
        retold(packed(part))
