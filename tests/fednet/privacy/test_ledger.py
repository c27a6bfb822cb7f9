"""The ledger: on the disk before anything is done, shared, and never forgiving."""

from __future__ import annotations

from pathlib import Path

import pytest

from fednet.errors import PrivacyError
from fednet.privacy.accounting import Expense, epsilon
from fednet.privacy.ledger import Budget, Ledger

DELTA = 1e-5
ANY = Budget(None, DELTA)
STEP = Expense(0.1, 1.0, 50)


def test_what_was_reserved_is_found_by_whoever_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "privacy" / "a.json"
    assert Ledger(path).reserve("round 1", STEP, ANY) == 50
    again = Ledger(path)
    assert [entry.key for entry in again.entries] == ["round 1"]
    assert again.spent(DELTA).rdp == epsilon([STEP], DELTA)
    assert again.private


def test_two_runs_share_one_budget(tmp_path: Path) -> None:
    """Both have read the ledger before either writes; the second must see what the first has entered."""
    budget = Budget(epsilon([STEP], DELTA) * 1.05, DELTA)
    first, second = Ledger(tmp_path / "l"), Ledger(tmp_path / "l")
    assert first.reserve("a", STEP, budget) == 50
    granted = second.reserve("b", STEP, budget)
    assert 0 < granted < 50
    assert Ledger(tmp_path / "l").spent(DELTA).rdp <= epsilon([STEP], DELTA) * 1.05
    with pytest.raises(PrivacyError, match="budget is spent"):
        first.reserve("c", STEP, budget)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_a_reservation_stops_before_the_step_that_would_exceed(tmp_path: Path, accountant: str) -> None:
    budget = Budget(3.0, DELTA, accountant)  # type: ignore[arg-type]
    ledger = Ledger(tmp_path / "l")
    steps = ledger.reserve("a", Expense(0.1, 1.0, 10_000), budget)
    assert epsilon([Expense(0.1, 1.0, steps)], DELTA, budget.accountant) <= 3.0
    assert epsilon([Expense(0.1, 1.0, steps + 1)], DELTA, budget.accountant) > 3.0
    with pytest.raises(PrivacyError, match=r"budget is spent: epsilon .* of 3 "):
        ledger.reserve("b", Expense(0.1, 1.0, 1), budget)
    assert len(Ledger(tmp_path / "l").entries) == 1


def test_a_ledger_that_cannot_be_written_grants_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "l")

    def full(path: Path, content: bytes) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("fednet.privacy.ledger.write_through", full)
    with pytest.raises(OSError, match="no space"):
        ledger.reserve("a", STEP, ANY)
    assert ledger.entries == ()


def test_seeded_noise_is_remembered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.reserve("a", STEP, ANY, private=False)
    assert not Ledger(tmp_path / "l").private


def test_a_damaged_or_foreign_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l"
    Ledger(path).reserve("a", STEP, ANY)
    with pytest.raises(PrivacyError, match="counts the privacy of one example"):
        Ledger(path, "client")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PrivacyError, match="no privacy ledger"):
        Ledger(path)
