"""What is told when a plan cannot go on."""

from __future__ import annotations

from protocol.codec import Envelope, encode
from protocol.machines.attempt_values import RoundImpossible
from protocol.machines.failures import abort_message, listed, missing
from protocol.messages.round_values import RoundPlanMessage
from protocol.quorum import QuorumOutcome
from protocol.topics import ROUNDS


def test_reasons_are_cut_to_the_length_of_a_message() -> None:
    plan = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=1, federation="{}", options={})
    aborted = abort_message(3, plan, RoundImpossible("x" * 900, {"b": "y" * 900}))
    assert (aborted.term, len(aborted.reason), len(aborted.lost["b"])) == (3, 500, 500)


def test_whatever_reasons_a_run_of_many_members_has_it_can_be_told() -> None:
    plan = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=1, federation="{}", options={})
    lost = {f"{number}".ljust(32, "n"): "\U0001f600" * 500 for number in range(256)}
    aborted = abort_message(3, plan, RoundImpossible("\U0001f600" * 500, lost))
    encode(Envelope(ROUNDS, "r", "a", 1, 1, aborted))
    assert aborted.lost.keys() == lost.keys()


def test_whoever_is_missing_is_named() -> None:
    outcome = QuorumOutcome(True, ("a",), ("b",), {"c": "left"}, True, 0.0)
    assert missing(outcome) == {"b": "late", "c": "left"}
    assert listed(missing(outcome)) == "c left, b late"
