"""Sequence numbers, gaps and retransmission: no silent loss, no duplicate, no unbounded cost."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from protocol.retransmission import MAX_MISSING, MAX_RETRY_INTERVAL, Baselines, Inbox, MissingRange, Outbox

TOPIC = "queries/"
PATIENCE = 0.25


def listening(latest: int = 0) -> Inbox:
    """A receive window at the baseline of sender `a`, incarnation 1."""
    inbox = Inbox(PATIENCE)
    inbox.start("a", 1, {TOPIC: latest})
    return inbox


def asked(inbox: Inbox, now: float) -> list[tuple[int, int]]:
    return [(missing.first, missing.last) for missing in inbox.due(now)]


class TestOutbox:
    def test_numbers_every_topic_from_one(self) -> None:
        outbox = Outbox()
        for topic, number in (("a/", 1), ("a/", 2), ("b/", 1)):
            assert outbox.number(topic) == number
            outbox.keep(topic, number, [], 0)
        assert outbox.latest == {"a/": 2, "b/": 1}

    def test_a_number_that_was_not_used_is_given_again(self) -> None:
        outbox = Outbox()
        assert [outbox.number("a/"), outbox.number("a/")] == [1, 1]
        assert outbox.latest == {}

    def test_finds_what_it_keeps_and_nothing_else(self) -> None:
        outbox = Outbox()
        outbox.keep("a/", 1, [b"one"], 3)
        assert outbox.find("a/", 1) == [b"one"]
        assert outbox.find("a/", 2) is None
        assert outbox.find("b/", 1) is None

    @given(st.lists(st.tuples(st.sampled_from(["a/", "b/"]), st.integers(0, 40)), max_size=60), st.integers(1, 100))
    def test_holds_at_most_its_capacity_and_drops_the_oldest_first(
        self, sent: list[tuple[str, int]], capacity: int
    ) -> None:
        outbox = Outbox(capacity)
        order = []
        for topic, size in sent:
            number = outbox.number(topic)
            outbox.keep(topic, number, [b""], size)
            order.append((topic, number, size))
            assert outbox.stored_bytes <= capacity
        kept = [outbox.find(topic, number) is not None for topic, number, _ in order]
        assert kept == sorted(kept)
        assert outbox.stored_bytes == sum(size for (_, _, size), held in zip(order, kept, strict=True) if held)

    def test_a_message_larger_than_the_capacity_is_not_kept_but_numbered(self) -> None:
        outbox = Outbox(10)
        outbox.keep(TOPIC, outbox.number(TOPIC), [b""], 11)
        assert (outbox.stored_bytes, outbox.find(TOPIC, 1), outbox.number(TOPIC)) == (0, None, 2)

    def test_a_forgotten_topic_starts_afresh_and_frees_its_bytes(self) -> None:
        outbox = Outbox()
        outbox.keep("to/a/", outbox.number("to/a/"), [b"old"], 3)
        outbox.keep(TOPIC, outbox.number(TOPIC), [b"other"], 5)
        outbox.forget("to/a/")
        assert (outbox.stored_bytes, outbox.latest) == (5, {TOPIC: 1})
        assert outbox.find("to/a/", 1) is None
        assert outbox.number("to/a/") == 1


class TestBaseline:
    def test_a_late_joiner_misses_nothing_of_what_was_before_it(self) -> None:
        inbox = listening(latest=500)
        inbox.note_latest("a", TOPIC, 500, now=0)
        assert inbox.missing_count() == 0
        assert not inbox.accept("a", TOPIC, 500, now=0)
        assert inbox.accept("a", TOPIC, 501, now=0)

    def test_a_repeated_hello_does_not_move_the_baseline(self) -> None:
        inbox = listening(latest=5)
        inbox.start("a", 1, {TOPIC: 9})
        inbox.note_latest("a", TOPIC, 9, now=0)
        assert asked(inbox, PATIENCE) == [(6, 9)]

    def test_a_new_incarnation_numbers_afresh(self) -> None:
        inbox = listening()
        for number in range(1, 8):
            assert inbox.accept("a", TOPIC, number, now=0)
        inbox.start("a", 2, {TOPIC: 0})
        assert inbox.has_baseline("a", 2)
        assert not inbox.has_baseline("a", 1)
        assert inbox.accept("a", TOPIC, 1, now=0)

    def test_a_departed_sender_is_forgotten(self) -> None:
        inbox = listening()
        inbox.note_latest("a", TOPIC, 3, now=0)
        inbox.forget("a")
        assert (inbox.missing_count(), inbox.has_baseline("a", 1), asked(inbox, 99)) == (0, False, [])

    def test_senders_and_topics_are_numbered_apart(self) -> None:
        inbox = listening()
        inbox.start("b", 1, {TOPIC: 0, "presence/": 0})
        assert inbox.accept("a", TOPIC, 1, now=0)
        assert inbox.accept("b", TOPIC, 1, now=0)
        assert inbox.accept("b", "presence/", 1, now=0)
        assert inbox.missing_count() == 0


class TestBaselines:
    def test_an_incarnation_has_what_follows_the_first_hello_to_it(self) -> None:
        baselines = Baselines()
        assert baselines.first("b", 1, TOPIC) is None
        latest = {TOPIC: 5}
        baselines.greet("b", 1, latest)
        latest[TOPIC] = 0
        baselines.greet("b", 1, {TOPIC: 2})
        assert [baselines.first("b", 1, topic) for topic in (TOPIC, "rounds/")] == [6, 1]
        assert baselines.first("b", 2, TOPIC) is None

    def test_the_next_incarnation_and_one_that_has_left_begin_anew(self) -> None:
        baselines = Baselines()
        baselines.greet("b", 1, {TOPIC: 5})
        baselines.greet("b", 2, {TOPIC: 7})
        assert [baselines.first("b", incarnation, TOPIC) for incarnation in (1, 2)] == [None, 8]
        baselines.forget("b")
        baselines.forget("nobody")
        assert baselines.first("b", 2, TOPIC) is None


class TestGaps:
    def test_a_gap_is_asked_for_at_once_and_again_after_each_patience(self) -> None:
        inbox = listening()
        inbox.accept("a", TOPIC, 4, now=10.0)
        assert list(inbox.due(10.0)) == [MissingRange("a", TOPIC, 1, 3)]
        assert asked(inbox, 10.0 + 0.9 * PATIENCE) == []
        assert asked(inbox, 10.0 + PATIENCE) == [(1, 3)]

    def test_separate_gaps_are_asked_for_separately(self) -> None:
        inbox = listening()
        for number in (2, 5, 6, 9):
            inbox.accept("a", TOPIC, number, now=0)
        assert asked(inbox, 0) == [(1, 1), (3, 4), (7, 8)]

    def test_a_lost_last_message_is_requested_after_a_heartbeat_and_a_delay(self) -> None:
        inbox = listening()
        inbox.accept("a", TOPIC, 1, now=0)
        inbox.note_latest("a", TOPIC, 2, now=1.0)
        assert asked(inbox, 1.0 + 0.9 * PATIENCE) == []
        assert asked(inbox, 1.0 + PATIENCE) == [(2, 2)]
        assert inbox.accept("a", TOPIC, 2, now=2.0)
        assert asked(inbox, 9.0) == []

    def test_a_repeated_heartbeat_does_not_delay_the_request(self) -> None:
        inbox = listening()
        for beat in range(3):
            inbox.note_latest("a", TOPIC, 1, now=beat * 0.4 * PATIENCE)
        assert asked(inbox, PATIENCE) == [(1, 1)]

    def test_unavailable_numbers_are_settled_and_named_once(self) -> None:
        inbox = listening()
        inbox.accept("a", TOPIC, 5, now=0)
        inbox.accept("a", TOPIC, 2, now=0)
        assert inbox.unavailable("a", TOPIC, 1, 3) == [1, 3]
        assert inbox.unavailable("a", TOPIC, 1, 3) == []
        assert asked(inbox, 99) == [(4, 4)]
        assert not inbox.accept("a", TOPIC, 3, now=0)

    def test_unavailable_numbers_that_are_not_missing_change_nothing(self) -> None:
        inbox = listening()
        assert inbox.unavailable("a", TOPIC, 1, 2**62) == []
        assert inbox.unavailable("other", TOPIC, 1, 9) == []
        assert inbox.accept("a", TOPIC, 1, now=0)


class TestHostileNumbers:
    @pytest.mark.parametrize("say", ["accept", "note_latest"])
    def test_a_huge_number_costs_a_bounded_amount_and_is_counted(self, say: str) -> None:
        inbox = listening()
        getattr(inbox, say)("a", TOPIC, 2**63 - 1, 0.0)
        assert inbox.missing_count() <= MAX_MISSING
        assert inbox.given_up + inbox.missing_count() == 2**63 - 1 - (say == "accept")
        assert sum(last - first + 1 for first, last in asked(inbox, PATIENCE)) == inbox.missing_count()

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 2**63 - 1)), max_size=12))
    @settings(max_examples=50, deadline=None)
    def test_any_numbers_leave_bounded_state_and_requests_that_the_wire_can_carry(
        self, said: list[tuple[bool, int]]
    ) -> None:
        inbox = listening()
        for accept, number in said:
            (inbox.accept if accept else inbox.note_latest)("a", TOPIC, number, 0.0)
            stream = inbox._streams["a"][TOPIC]
            assert len(stream.missing) <= MAX_MISSING
            assert len(stream.ahead) <= MAX_MISSING + 1
            assert not stream.ahead & stream.missing.keys()
        assert all(last - first < MAX_MISSING for first, last in asked(inbox, 99))

    def test_every_number_is_either_accepted_or_given_up(self) -> None:
        inbox = listening()
        sent = [1, 2, 3000, 2990, 1976, 1975, 1, 2998, 5000]
        accepted = sum(inbox.accept("a", TOPIC, number, 0.0) for number in sent)
        assert accepted + inbox.missing_count() + inbox.given_up == 5000


@given(
    messages=st.integers(1, 60),
    drop=st.floats(0, 0.9),
    duplicate=st.floats(0, 0.5),
    beats=st.booleans(),  # whether every heartbeat comes through, or just one
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_channel_does_everything_is_accepted_exactly_once(
    messages: int, drop: float, duplicate: float, beats: bool, seed: int
) -> None:
    """A lossy, duplicating, reordering channel in both directions, and retransmission until all has arrived."""
    faults = random.Random(seed)  # noqa: S311 - replayable faults, not secrets
    outbox, inbox = Outbox(), listening()
    accepted: Counter[int] = Counter()

    def deliver(numbers: list[int], now: float) -> None:
        survived = [number for number in numbers if faults.random() >= drop]
        survived += [number for number in survived if faults.random() < duplicate]
        faults.shuffle(survived)
        accepted.update(number for number in survived if inbox.accept("a", TOPIC, number, now))

    for _ in range(messages):
        number = outbox.number(TOPIC)
        outbox.keep(TOPIC, number, [b""], 1)
    deliver(list(range(1, messages + 1)), 0.0)
    turn = 0
    while turn == 0 or (inbox.missing_count() and turn < 10_000):
        now, turn = turn * PATIENCE, turn + 1
        if beats or turn == 1:
            inbox.note_latest("a", TOPIC, outbox.latest[TOPIC], now)
        requests = [missing for missing in inbox.due(now) if faults.random() >= drop]
        for missing in requests:
            deliver([n for n in range(missing.first, missing.last + 1) if outbox.find(TOPIC, n)], now)
    assert accepted == Counter(range(1, messages + 1))
    assert (inbox.missing_count(), inbox.given_up) == (0, 0)


class Conversation(RuleBasedStateMachine):
    """One sender and one receiver in any order of events, beside a model that only counts."""

    numbers = Bundle("numbers")

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.inbox = listening()
        self.now = 0.0
        self.accepted: set[int] = set()
        self.gone: set[int] = set()
        self.highest = 0

    @rule(target=numbers)
    def publish(self) -> int:
        number = self.outbox.number(TOPIC)
        self.outbox.keep(TOPIC, number, [], 0)
        return number

    @rule(number=numbers)
    def arrive(self, number: int) -> None:
        new = self.inbox.accept("a", TOPIC, number, self.now)
        assert new == (number not in self.accepted | self.gone)
        self.accepted |= {number} if new else set()
        self.highest = max(self.highest, number)

    @rule()
    def beat(self) -> None:
        latest = self.outbox.latest.get(TOPIC, 0)
        self.inbox.note_latest("a", TOPIC, latest, self.now)
        self.highest = max(self.highest, latest)

    @rule(number=numbers)
    def lose(self, number: int) -> None:
        lost = self.inbox.unavailable("a", TOPIC, number, number)
        assert lost == ([number] if self.is_missing(number) else [])
        self.gone |= set(lost)

    @precondition(lambda self: self.highest)
    @rule(step=st.floats(0.0, 1.0))
    def wait(self, step: float) -> None:
        self.now += step
        due = {n for missing in self.inbox.due(self.now) for n in range(missing.first, missing.last + 1)}
        assert all(self.is_missing(number) for number in due)
        self.now += MAX_RETRY_INTERVAL
        due = {n for missing in self.inbox.due(self.now) for n in range(missing.first, missing.last + 1)}
        assert due == {number for number in range(1, self.highest + 1) if self.is_missing(number)}

    def is_missing(self, number: int) -> bool:
        return number <= self.highest and number not in self.accepted | self.gone

    @invariant()
    def what_is_missing_is_what_was_claimed_and_never_came(self) -> None:
        assert self.inbox.missing_count() == self.highest - len(self.accepted) - len(self.gone)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
