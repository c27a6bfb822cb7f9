"""Leader election: terms have one owner, majorities share a member, and a vote is never forgotten."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from protocol.election import PREPARE_INTERVAL, RESTART_DELAY, Election, ElectionWon, StartElection, TellOwner
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import BlobRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit
from protocol.topics import LARGEST
from tests.cases import first

NAMES = ("a", "b", "c", "d", "e")


def blob(letter: str) -> BlobRef:
    return BlobRef(digest=letter * 64, size=1)


def record(number: int, term: int = 1, attempt: int = 1, letter: str = "0", model: str = "m") -> RoundCommit:
    return RoundCommit(
        model=model, number=number, term=term, attempt=attempt, key="k", index=number, rounds=9999, leader="a",
        base="0" * 64, transcript="1" * 64,
        outcome=blob(letter), weights={}, values={}, late=(), lost={}, refused={}, seconds=0.0,
    )  # fmt: skip


def voted(number: int, term: int, attempt: int = 1, letter: str = "1", voter: str = "") -> AcceptedVote:
    plan = RoundPlanMessage(key="k", requester="g", model="m", task="w", rounds=9999, federation="{}", options={})
    votes = {voter: b""} if voter else {}
    vote = record(number, term, attempt, letter).model_copy(update={"votes": votes})
    return AcceptedVote(plan=plan, record=vote)


def election(me: str, *living: str, term: int = 0, members: tuple[str, ...] = NAMES) -> Election:
    made = Election(me, members, term)
    for name in living:
        made.arrived(name)
    return made


def test_every_term_has_one_owner_and_they_take_turns() -> None:
    owners = [election("a").owner(term) for term in range(1, 11)]
    assert owners == [*NAMES, *NAMES]
    assert election("c", members=("c", "a", "b")).owner(1) == "a"


def test_the_first_living_member_is_the_candidate() -> None:
    assert election("a", *NAMES).tick(0, {}, {}) == [StartElection(1)]
    assert election("b", *NAMES).tick(0, {}, {}) == []
    assert election("b", "c", "d").tick(0, {}, {}) == [StartElection(2)]


def test_there_is_no_candidate_without_a_majority() -> None:
    assert election("a", "b").tick(0, {}, {}) == []
    assert election("a", "b", "c").tick(0, {}, {}) == [StartElection(1)]


def test_a_prepare_is_repeated_and_keeps_its_promises() -> None:
    me = election("a", *NAMES)
    assert me.tick(0, {}, {}) == [StartElection(1)]
    assert me.promise("b", 1, {}, {}) == []
    assert me.tick(PREPARE_INTERVAL / 2, {}, {}) == []
    assert me.tick(PREPARE_INTERVAL, {}, {}) == [StartElection(1)]
    assert me.promise("b", 1, {}, {}) == [], "one member promises once"
    assert me.promise("c", 1, {}, {}) == [ElectionWon(1)]
    assert me.is_leader
    assert me.promise("d", 1, {}, {}) == [], "it leads already"
    assert me.tick(99, {}, {}) == []


def test_a_single_member_leads_at_once() -> None:
    assert election("a", members=("a",)).tick(0, {}, {}) == [StartElection(1), ElectionWon(1)]


def test_the_leader_departs_and_the_next_owner_follows() -> None:
    b = election("b", *NAMES)
    assert b.prepare("a", 1)
    assert b.leader == "a"
    b.departed("a")
    assert b.tick(0, {}, {}) == [StartElection(2)]
    c = election("c", *NAMES)
    c.prepare("a", 1)
    c.departed("a")
    assert c.tick(0, {}, {}) == [TellOwner("b")], "b may not have heard of the term that is over"
    c.departed("b")
    assert c.tick(0, {}, {}) == [StartElection(3)]


def test_a_promise_rejects_lower_terms_and_other_owners() -> None:
    me = election("e", *NAMES)
    assert me.prepare("b", 2)
    assert not me.prepare("a", 1)
    assert not me.prepare("a", 7), "7 is b's"
    assert not me.prepare("zoe", 8)
    assert not me.accept_leader("a", 0)
    assert me.accept_leader("b", 2)
    assert me.term == 2


def test_a_leader_steps_down_for_a_higher_term() -> None:
    me = election("a", *NAMES)
    me.tick(0, {}, {})
    me.promise("b", 1, {}, {})
    me.promise("c", 1, {}, {})
    assert me.is_leader
    assert me.prepare("c", 3)
    assert not me.is_leader
    assert me.tick(9, {}, {}) == []
    me.departed("c")
    me.departed("b")
    me.departed("d")
    me.departed("e")
    assert me.tick(9, {}, {}) == [], "too few are left"


def test_a_promise_of_a_higher_term_moves_the_candidate_to_its_next() -> None:
    me = election("a", *NAMES)
    assert me.tick(0, {}, {}) == [StartElection(1)]
    assert me.promise("b", 4, {}, {}) == []
    assert (me.term, me.leader) == (4, "d")
    me.departed("d")
    me.departed("e")
    assert me.tick(1, {}, {}) == [StartElection(6)]
    assert me.promise("zoe", 99, {}, {}) == []
    assert me.term == 6


def test_a_restarted_member_waits_and_never_reuses_a_term() -> None:
    me = election("a", *NAMES, term=6)
    assert me.tick(5, {}, {}) == []
    assert me.tick(5 + RESTART_DELAY / 2, {}, {}) == []
    assert me.tick(5 + RESTART_DELAY, {}, {}) == [StartElection(11)]
    other = election("a", *NAMES, term=6)
    assert other.tick(5, {}, {}) == []
    assert other.prepare("b", 7)
    assert other.tick(5 + RESTART_DELAY, {}, {}) == []


def test_the_leader_starts_from_the_latest_records() -> None:
    me = election("a", *NAMES)
    me.tick(0, {"m": record(3), "n": record(1, model="n")}, {})
    me.promise("b", 1, {"m": record(4)}, {})
    assert me.promise("c", 1, {"m": record(2), "o": record(1, model="o")}, {}) == [ElectionWon(1)]
    assert me.latest_records() == {
        "m": (record(4), "b"), "n": (record(1, model="n"), "a"), "o": (record(1, model="o"), "c")
    }  # fmt: skip


@pytest.mark.parametrize("order", list(itertools.permutations(("b", "c"))))
def test_the_latest_vote_for_the_next_round_counts(order: tuple[str, ...]) -> None:
    me = election("a", *NAMES)
    me.tick(0, {"m": record(3)}, {"m": voted(4, term=1, attempt=7)})
    votes: dict[str, Any] = {"b": {"m": voted(4, term=3, letter="2")}, "c": {"m": voted(3, term=9)}}
    for name in order:
        me.promise(name, 1, {"m": record(3)}, votes[name])
    assert me.is_leader
    assert me.open_votes() == (voted(4, term=3, letter="2"), voted(4, term=1, attempt=7)), "the latest first"


def test_votes_for_one_record_add_up_and_a_late_promise_counts() -> None:
    me = election("a", *NAMES)
    me.tick(0, {}, {"m": voted(1, term=9, voter="a")})
    me.promise("b", 1, {}, {"m": voted(1, term=9, voter="b")})
    me.promise("c", 1, {}, {})
    assert (me.unpromised, me.silent) == ({"d", "e"}, 2)
    assert me.promise("d", 1, {}, {"m": voted(1, term=9, voter="d")}) == [], "it leads already"
    assert me.open_votes()[0].record.votes == dict.fromkeys("abd", b"")
    assert (me.unpromised, me.silent) == ({"e"}, 1)


def test_a_vote_for_a_model_that_no_round_has_touched_counts() -> None:
    me = election("a", "b", "c", members=("a", "b", "c"))
    me.tick(0, {}, {})
    me.promise("b", 1, {}, {"m": voted(1, term=9)})
    assert me.open_votes() == (voted(1, term=9),)


@pytest.mark.parametrize("order", list(itertools.permutations(("b", "c"))))
def test_what_a_member_says_of_its_own_vote_counts_whatever_others_say_of_it(order: tuple[str, ...]) -> None:
    me = election("a", *NAMES)
    me.tick(0, {}, {})
    true = voted(1, term=1, voter="b")
    true = true.model_copy(update={"record": true.record.model_copy(update={"votes": {"b": b"true"}})})
    false = true.model_copy(update={"record": true.record.model_copy(update={"votes": {"b": b"false", "c": b"c"}})})
    for name in order:
        me.promise(name, 1, {}, {"m": true if name == "b" else false})
    assert me.open_votes()[0].record.votes == {"b": b"true", "c": b"c"}


@pytest.mark.parametrize("order", list(itertools.permutations(("b", "c"))))
def test_a_false_plan_that_is_stated_with_a_record_does_not_hide_the_true_one(order: tuple[str, ...]) -> None:
    me = election("a", *NAMES)
    me.tick(0, {}, {})
    true, false = voted(1, term=1, voter="b"), voted(1, term=1, voter="c")
    false = false.model_copy(update={"plan": false.plan.model_copy(update={"federation": "no JSON"})})
    for name in order:
        me.promise(name, 1, {}, {"m": true if name == "b" else false})
    assert {vote.plan.federation for vote in me.open_votes()} == {"{}", "no JSON"}
    assert all(vote.record.votes == {"b": b"", "c": b""} for vote in me.open_votes())


@pytest.mark.parametrize("seed", first(5, range(20)))
def test_a_term_has_one_leader_and_no_majority_is_missed(seed: int) -> None:
    """Members come, go and stand for election in any order; the leader has every record that a majority adopted."""
    dice = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
    members = {name: election(name, *NAMES) for name in NAMES}
    has: dict[str, int] = dict.fromkeys(NAMES, 1)
    leads: dict[int, str] = {}
    closed, now = 0, 0.0
    for _ in range(300):
        now += dice.random()
        name = dice.choice(NAMES)
        me = members[name]
        for other in NAMES:
            (me.arrived if dice.random() < 0.7 else me.departed)(other)
        outcomes = me.tick(now, {"m": record(has[name])}, {})
        for claim in [outcome for outcome in outcomes if isinstance(outcome, StartElection)]:
            for other in dice.sample(NAMES, dice.randint(1, 5)):
                if other != name and members[other].prepare(name, claim.term):
                    outcomes += me.promise(other, claim.term, {"m": record(has[other])}, {})
        for elected in [outcome for outcome in outcomes if isinstance(outcome, ElectionWon)]:
            assert leads.setdefault(elected.term, name) == name
            assert members[name].latest_records()["m"][0].number >= closed
            follow = [
                other for other in NAMES if dice.random() < 0.8 and members[other].accept_leader(name, elected.term)
            ]
            if len({*follow, name}) >= 3:
                closed = members[name].latest_records()["m"][0].number + 1
                has.update(dict.fromkeys({*follow, name}, closed))
    assert closed > 3


def test_no_peer_uses_up_the_terms() -> None:
    election = Election("a", "abc", term=4)
    assert not election.accept_leader("c", LARGEST - LARGEST % 3)
    assert election.promise("c", LARGEST, {}, {}) == []
    assert election.term == 4
    assert election.accept_leader("c", 6)
    newcomer = Election("a", "abc")
    assert not newcomer.accept_leader("c", 3 << 40), "one false message would end all elections"
    assert newcomer.promise("c", LARGEST, {}, {}) == []
    assert newcomer.term == 0
    newcomer.proven((3 << 40) - 2)
    assert newcomer.accept_leader("c", 3 << 40), "a majority has followed a term nearby"
    assert not newcomer.accept_leader("c", LARGEST - 1)
    assert newcomer.term == 3 << 40


def test_a_promise_of_a_term_that_nobody_has_claimed_stops_nobody() -> None:
    """A member that lies names a term of b: a waits for b to lead, which has to learn of it."""
    a, b = election("a", *NAMES), election("b", *NAMES)
    a.tick(0, {}, {})
    assert a.promise("e", 2, {}, {}) == []
    assert (a.term, a.leader) == (2, "b")
    assert a.tick(1, {}, {}) == [TellOwner("b")]
    assert a.tick(1 + PREPARE_INTERVAL / 2, {}, {}) == []
    assert a.tick(1 + PREPARE_INTERVAL, {}, {}) == [TellOwner("b")], "it may have been lost"
    assert b.tick(2, {}, {}) == []
    b.promise("a", a.term, {}, {})
    assert b.tick(2, {}, {}) == [StartElection(7)], "it has never claimed the term 2, and does not know who promised it"
    assert a.prepare("b", 7)
    assert a.tick(3, {}, {}) == []
    a.departed("b")
    assert a.tick(4, {}, {}) == [TellOwner("c")]


def test_the_next_candidate_learns_of_a_term_whose_owner_is_gone() -> None:
    """C has missed the prepare of b, and waits for a, which waits for c."""
    a, c = (election(name, "a", "b", "c", "d") for name in "ac")
    for each in (a, c):
        assert each.accept_leader("a", 1) or each.me == "a"
    a.prepare("b", 2)
    for each in (a, c):
        each.departed("b")
    assert c.tick(0, {}, {}) == []
    assert a.tick(0, {}, {}) == [TellOwner("c")]
    c.promise("a", a.term, {}, {})
    assert c.tick(1, {}, {}) == [StartElection(3)]


def test_after_the_last_term_nobody_is_a_candidate() -> None:
    election = Election("a", "abc", term=LARGEST)
    for name in "bc":
        election.arrived(name)
    assert not any(election.tick(float(now), {}, {}) for now in range(20))
    assert election.term == LARGEST
