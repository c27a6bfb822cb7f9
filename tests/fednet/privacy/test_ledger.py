"""The ledger: on the disk before anything is done, shared, never forgiving, and never paid for what nobody saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fednet.errors import PrivacyError
from fednet.privacy.accounting import Expense, epsilon
from fednet.privacy.ledger import PrivacyBudget, PrivacyLedger

DELTA = 1e-5
ANY = PrivacyBudget(None, DELTA)
STEP = Expense(0.1, 1.0, 50)


def test_what_was_reserved_is_found_by_whoever_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "privacy" / "a.json"
    assert PrivacyLedger(path).reserve("round 1", STEP, ANY).steps == 50
    again = PrivacyLedger(path)
    assert [entry.key for entry in again.entries] == ["round 1"]
    assert again.spent(DELTA).rdp == epsilon([STEP], DELTA)
    assert again.private


def test_two_runs_share_one_budget(tmp_path: Path) -> None:
    """Both have read the ledger before either writes; the second must see what the first has entered."""
    budget = PrivacyBudget(epsilon([STEP], DELTA) * 1.05, DELTA)
    first, second = PrivacyLedger(tmp_path / "l"), PrivacyLedger(tmp_path / "l")
    assert first.reserve("a", STEP, budget).steps == 50
    granted = second.reserve("b", STEP, budget).steps
    assert 0 < granted < 50
    assert PrivacyLedger(tmp_path / "l").spent(DELTA).rdp <= epsilon([STEP], DELTA) * 1.05
    with pytest.raises(PrivacyError, match="budget is spent"):
        first.reserve("c", STEP, budget)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_a_reservation_stops_before_the_step_that_would_exceed(tmp_path: Path, accountant: str) -> None:
    budget = PrivacyBudget(3.0, DELTA, accountant)  # type: ignore[arg-type]
    ledger = PrivacyLedger(tmp_path / "l")
    steps = ledger.reserve("a", Expense(0.1, 1.0, 1000), budget).steps
    assert epsilon([Expense(0.1, 1.0, steps)], DELTA, budget.accountant) <= 3.0
    assert epsilon([Expense(0.1, 1.0, steps + 1)], DELTA, budget.accountant) > 3.0
    with pytest.raises(PrivacyError, match=r"budget is spent: epsilon .* of 3 "):
        ledger.reserve("b", Expense(0.1, 1.0, 1), budget)
    assert len(PrivacyLedger(tmp_path / "l").entries) == 1


def test_work_that_begins_again_before_its_release_uses_what_was_reserved(tmp_path: Path) -> None:
    first = PrivacyLedger(tmp_path / "l").reserve("a", STEP, ANY)
    again = PrivacyLedger(tmp_path / "l").reserve("a", STEP, ANY)
    (entry,) = PrivacyLedger(tmp_path / "l").entries
    assert entry == again
    assert (entry.key, entry.expense, entry.released) == ("a", STEP, False)
    assert again.attempt != first.attempt


def test_a_reservation_counts_as_spent(tmp_path: Path) -> None:
    budget = PrivacyBudget(epsilon([STEP], DELTA), DELTA)
    PrivacyLedger(tmp_path / "l").reserve("a", STEP, budget)
    with pytest.raises(PrivacyError, match="budget is spent"):
        PrivacyLedger(tmp_path / "l").reserve("b", STEP, budget)


def test_a_reservation_that_the_budget_cut_short_stays_as_short(tmp_path: Path) -> None:
    budget = PrivacyBudget(epsilon([Expense(0.1, 1.0, 70)], DELTA), DELTA)
    ledger = PrivacyLedger(tmp_path / "l")
    ledger.release(ledger.reserve("a", STEP, budget), budget)
    cut = ledger.reserve("b", STEP, budget)
    assert 1 <= cut.steps < 50
    assert ledger.reserve("b", STEP, budget).steps == cut.steps
    assert len(ledger.entries) == 2


@pytest.mark.parametrize(
    ("key", "wanted", "private"),
    [
        ("b", STEP, True),
        ("a", Expense(0.2, 1.0, 50), True),
        ("a", Expense(0.1, 2.0, 50), True),
        ("a", Expense(0.1, 1.0, 49), True),
        ("a", STEP, False),
    ],
)
def test_other_work_other_terms_and_fewer_steps_are_entered_beside_it(
    tmp_path: Path, key: str, wanted: Expense, private: bool
) -> None:
    ledger = PrivacyLedger(tmp_path / "l")
    first = ledger.reserve("a", STEP, ANY)
    other = ledger.reserve(key, wanted, ANY, private=private)
    assert ledger.entries == (first, other)


def test_what_was_released_is_never_used_again(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path / "l")
    entry = ledger.reserve("a", STEP, ANY)
    ledger.release(entry, ANY)
    ledger.release(entry, ANY)
    assert [one.released for one in PrivacyLedger(tmp_path / "l").entries] == [True]
    ledger.reserve("a", STEP, ANY)
    assert [one.released for one in PrivacyLedger(tmp_path / "l").entries] == [True, False]


def test_of_two_attempts_at_one_reservation_each_pays_for_what_it_releases(tmp_path: Path) -> None:
    """Two runs of one configuration that share a ledger: the second comes while the first is still at work."""
    one, other = PrivacyLedger(tmp_path / "l"), PrivacyLedger(tmp_path / "l")
    first, second = one.reserve("a", STEP, ANY), other.reserve("a", STEP, ANY)
    assert len(other.entries) == 1
    other.release(second, ANY)
    one.release(first, ANY)
    one.release(first, ANY)
    assert [entry.attempt for entry in PrivacyLedger(tmp_path / "l").entries] == [second.attempt, first.attempt]
    assert all(entry.released for entry in one.entries)


def test_an_attempt_that_lost_its_reservation_releases_nothing_where_the_budget_is_spent(tmp_path: Path) -> None:
    budget = PrivacyBudget(epsilon([STEP], DELTA) * 1.05, DELTA)
    ledger = PrivacyLedger(tmp_path / "l")
    first = ledger.reserve("a", STEP, budget)
    ledger.release(ledger.reserve("a", STEP, budget), budget)
    with pytest.raises(PrivacyError, match="50 more steps"):
        ledger.release(first, budget)
    assert len(PrivacyLedger(tmp_path / "l").entries) == 1


def test_expenses_beside_an_attempt(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path / "l")
    first = ledger.reserve("a", STEP, ANY)
    ledger.reserve("b", Expense(0.2, 1.0, 3), ANY)
    assert ledger.expenses_beside(first) == [Expense(0.2, 1.0, 3)]
    assert ledger.expenses() == [STEP, Expense(0.2, 1.0, 3)]


def test_in_a_ledger_that_knew_no_reservations_everything_is_spent(tmp_path: Path) -> None:
    old = {"key": "a", "rate": 0.1, "noise": 1.0, "steps": 50, "private": True}
    (tmp_path / "l").write_text(json.dumps({"unit": "example", "entries": [old]}))
    ledger = PrivacyLedger(tmp_path / "l")
    assert ledger.entries[0].released
    ledger.reserve("a", STEP, ANY)
    assert len(ledger.entries) == 2


def test_a_ledger_that_cannot_be_written_grants_and_releases_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = PrivacyLedger(tmp_path / "l")
    before = ledger.reserve("before", STEP, ANY)

    def full(path: Path, content: bytes, *, durable: bool) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("fednet.privacy.ledger.write_whole", full)
    with pytest.raises(OSError, match="no space"):
        ledger.reserve("a", STEP, ANY)
    with pytest.raises(OSError, match="no space"):
        ledger.release(before, ANY)
    assert ledger.entries == (before,)


def test_seeded_noise_is_remembered(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path / "l")
    ledger.reserve("a", STEP, ANY, private=False)
    assert not PrivacyLedger(tmp_path / "l").private


def test_a_damaged_or_foreign_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l"
    PrivacyLedger(path).reserve("a", STEP, ANY)
    with pytest.raises(PrivacyError, match="counts the privacy of one example"):
        PrivacyLedger(path, "client")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PrivacyError, match="no privacy ledger"):
        PrivacyLedger(path)
