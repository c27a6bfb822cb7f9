"""A vote is open until it is recovered, or promises show that too few can have voted for it."""

from __future__ import annotations

from protocol.machines.recovery import OpenVotes
from protocol.machines.signatory import Signatory
from protocol.messages.round_values import ModelVersion
from tests.protocol.machines.simulated_values import Keyless
from tests.protocol.test_election import NAMES, election, voted

BEFORE = ModelVersion(number=3, outcome=voted(4, term=1).record.outcome)


def test_what_promises_leave_possible_is_recovered_and_nothing_else() -> None:
    me = election("a", *NAMES)
    votes = OpenVotes(me, Signatory(Keyless(), lambda: NAMES))
    me.tick(0, {}, {"m": voted(1, term=1, voter="a")})
    vote = voted(1, term=1, voter="a")
    start = BEFORE.model_copy(update={"number": 0})
    for name in "bc":
        me.promise(name, 1, {}, {})
    votes.learn()
    assert votes.next() == vote
    assert votes.may_be_committed(vote, start), "d and e may have voted for it, and with a they are a majority"
    assert not votes.may_be_committed(vote, BEFORE), "of another round"
    me.promise("d", 1, {}, {})
    assert not votes.may_be_committed(vote, start), "e alone can have"


def test_what_could_not_be_recovered_is_the_next_again_and_a_reason_is_said_once() -> None:
    votes = OpenVotes(election("a", *NAMES), Signatory(Keyless(), lambda: NAMES))
    vote = voted(4, term=1)
    assert "c is late" in votes.keep(vote, "c is late")
    assert votes.next() == vote
    assert not votes
    assert votes.keep(vote, "c is late") == ""
    assert votes
    assert "d is late" in votes.keep(vote, "d is late")
