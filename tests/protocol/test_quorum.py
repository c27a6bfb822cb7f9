"""One step: which peers it waits for, until when, and that a partial outcome names who is missing."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.quorum import DeadlineEstimator, QuorumOutcome, QuorumPolicy, QuorumTracker

THREE = ("a", "b", "c")
WAIT = QuorumPolicy(kind="wait", hard_limit=60.0)
SURVIVORS = QuorumPolicy(kind="survivors", quorum=2, hard_limit=60.0, cold_start=10.0)


def opened(policy: QuorumPolicy, now: float = 100.0) -> QuorumTracker:
    return QuorumTracker.open(THREE, now, policy, DeadlineEstimator(policy))


def arrived(step: QuorumTracker, *names: str, now: float = 101.0) -> QuorumTracker:
    for name in names:
        assert step.arrive(name, now)
    return step


class TestPolicy:
    @pytest.mark.parametrize("wrong", [{"quorum": 0}, {"hard_limit": 0}, {"floor": -1}, {"kind": "most"}, {"mad": 3}])
    def test_refuses_what_makes_no_sense(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            QuorumPolicy.model_validate(wrong)


class TestDeadlineEstimator:
    def test_a_cold_start_has_its_own_deadline(self) -> None:
        pace = DeadlineEstimator(SURVIVORS, warm=8)
        for _ in range(7):
            pace.record(0.5)
            assert pace.deadline() == SURVIVORS.cold_start
        pace.record(0.5)
        assert pace.deadline() == 0.5

    def test_is_the_median_and_some_deviations(self) -> None:
        taken = [1.0, 1.2, 0.9, 5.0, 1.1, 1.3, 0.8, 1.0, 1.1]
        pace = DeadlineEstimator(SURVIVORS)
        for seconds in taken:
            pace.record(seconds)
        spread = median(abs(seconds - median(taken)) for seconds in taken)
        assert pace.deadline() == pytest.approx(median(taken) + SURVIVORS.mads * spread)

    def test_is_never_below_its_floor(self) -> None:
        pace = DeadlineEstimator(SURVIVORS)
        for _ in range(20):
            pace.record(0.001)
        assert pace.deadline() == SURVIVORS.floor

    def test_forgets_what_is_long_ago(self) -> None:
        pace = DeadlineEstimator(SURVIVORS, window=10)
        for seconds in [9.0] * 10 + [1.0] * 10:
            pace.record(seconds)
        assert pace.deadline() == 1.0

    def test_one_outlier_hardly_moves_it(self) -> None:
        pace = DeadlineEstimator(SURVIVORS)
        for seconds in [1.0, 1.1] * 8 + [1000.0]:
            pace.record(seconds)
        assert pace.deadline() < 2.0


class TestWait:
    def test_waits_for_everybody_until_the_hard_limit(self) -> None:
        step = arrived(opened(WAIT), "a", "b")
        outcome = step.outcome(159.9)
        assert (outcome.closed, outcome.until) == (False, 160.0)
        assert step.outcome(160.0).closed

    def test_closes_the_moment_that_all_have_contributed(self) -> None:
        outcome = arrived(opened(WAIT), *THREE).outcome(101.0)
        assert outcome == QuorumOutcome(True, THREE, (), {}, True, outcome.until)

    def test_at_the_hard_limit_the_living_are_late(self) -> None:
        step = arrived(opened(WAIT), "b")
        step.lose("c", "silent for 3 s")
        outcome = step.outcome(160.0)
        assert (outcome.contributed, outcome.late, outcome.lost) == (("b",), ("a",), {"c": "silent for 3 s"})

    def test_closes_without_the_lost_and_names_them(self) -> None:
        step = arrived(opened(WAIT), "c", "a")
        assert not step.outcome(101.0).closed
        step.lose("b", "its connection broke")
        outcome = step.outcome(101.0)
        assert (outcome.closed, outcome.quorate) == (True, True)
        assert (outcome.contributed, outcome.lost) == (("a", "c"), {"b": "its connection broke"})

    def test_ignores_the_learned_deadline(self) -> None:
        pace = DeadlineEstimator(WAIT)
        for _ in range(20):
            pace.record(0.1)
        step = arrived(QuorumTracker.open(THREE, 0.0, WAIT, pace), "a", now=0.1)
        assert not step.outcome(59.0).closed


class TestSurvivors:
    def test_closes_with_a_quorum_at_the_deadline_and_not_before(self) -> None:
        step = arrived(opened(SURVIVORS), "a", "b")
        assert (step.outcome(109.9).closed, step.outcome(109.9).until) == (False, 110.0)
        outcome = step.outcome(110.0)
        assert (outcome.closed, outcome.contributed, outcome.late) == (True, ("a", "b"), ("c",))

    def test_waits_on_for_a_quorum_and_then_goes_at_once(self) -> None:
        step = arrived(opened(SURVIVORS), "a")
        outcome = step.outcome(115.0)
        assert (outcome.closed, outcome.quorate, outcome.until) == (False, False, 160.0)
        arrived(step, "b", now=116.0)
        assert step.outcome(116.0).closed

    def test_never_waits_beyond_the_hard_limit_even_without_a_quorum(self) -> None:
        outcome = arrived(opened(SURVIVORS), "a").outcome(160.0)
        assert (outcome.closed, outcome.quorate, outcome.late) == (True, False, ("b", "c"))

    def test_the_deadline_is_never_beyond_the_hard_limit(self) -> None:
        hasty = QuorumPolicy(kind="survivors", hard_limit=2.0, cold_start=10.0)
        assert opened(hasty).outcome(100.0).until == 102.0

    def test_a_step_without_living_peers_closes_without_a_quorum(self) -> None:
        step = arrived(opened(SURVIVORS), "a")
        step.lose("b", "gone")
        step.lose("c", "gone")
        outcome = step.outcome(100.5)
        assert (outcome.closed, outcome.quorate) == (True, False)


class TestArrivals:
    def test_a_duplicate_is_dropped(self) -> None:
        step = arrived(opened(WAIT), "a")
        assert not step.arrive("a", 102.0)
        assert list(step.durations()) == [1.0]

    def test_an_unexpected_one_is_dropped(self) -> None:
        step = opened(WAIT)
        assert not step.arrive("other", 101.0)
        step.lose("other", "who?")
        assert step.outcome(160.0).lost == {}

    def test_what_the_lost_say_is_dropped(self) -> None:
        step = opened(WAIT)
        step.lose("a", "silent")
        assert not step.arrive("a", 101.0)

    def test_what_was_contributed_before_a_loss_counts(self) -> None:
        step = arrived(opened(WAIT), *THREE)
        step.lose("a", "silent")
        assert step.outcome(102.0).contributed == THREE
        assert step.outcome(102.0).lost == {}

    def test_the_first_reason_for_a_loss_stands(self) -> None:
        step = opened(WAIT)
        step.lose("a", "refused: no such class")
        step.lose("a", "left: stopped")
        assert step.outcome(160.0).lost == {"a": "refused: no such class"}

    def test_a_step_for_nobody_is_over_and_has_no_quorum(self) -> None:
        outcome = QuorumTracker.open((), 0.0, WAIT, DeadlineEstimator(WAIT)).outcome(0.0)
        assert (outcome.closed, outcome.quorate, outcome.contributed) == (True, False, ())


EVENTS = st.lists(
    st.tuples(st.sampled_from(["arrive", "lose", "pass"]), st.sampled_from([*THREE, "x"]), st.floats(0, 20)),
    max_size=12,
)
POLICIES = st.builds(
    QuorumPolicy,
    kind=st.sampled_from(["wait", "survivors"]),
    quorum=st.integers(1, 4),
    hard_limit=st.floats(0.1, 60),
    cold_start=st.floats(0.1, 60),
)


@given(policy=POLICIES, opening=st.floats(0, 1e6), events=EVENTS)
def test_whatever_happens_everybody_is_accounted_for_and_waiting_ends(
    policy: QuorumPolicy, opening: float, events: list[tuple[str, str, float]]
) -> None:
    step = QuorumTracker.open(THREE, opening, policy, DeadlineEstimator(policy))
    now = opening
    for event, name, seconds in events:
        now += seconds
        if event == "arrive":
            step.arrive(name, now)
        elif event == "lose":
            step.lose(name, "gone")
        outcome = step.outcome(now)
        named = [*outcome.contributed, *outcome.late, *outcome.lost]
        assert len(named) == len(set(named))
        assert outcome.quorate == (len(outcome.contributed) >= policy.quorum)
        if outcome.closed:
            assert set(named) == set(THREE)
        else:
            assert now < outcome.until <= opening + policy.hard_limit
            assert set(outcome.contributed) | set(outcome.lost) < set(THREE)
    looks = 0
    while not (outcome := step.outcome(now)).closed:
        now, looks = outcome.until, looks + 1
        assert looks <= 2
