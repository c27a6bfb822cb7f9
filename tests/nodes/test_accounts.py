"""What is beyond a budget is refused and named, a habit of it ends in quarantine, and a mere claim never does."""

from __future__ import annotations

import pytest

from nodes.accounts import Accounts
from protocol.security.budget import Allowance, Budget, Cost
from protocol.security.quarantine import Leniency


class Book:
    """Accounts, and what they reported."""

    def __init__(self, *, believes: bool = False) -> None:
        self.refused: list[tuple[str, str]] = []
        self.barred: list[tuple[str, str]] = []
        self.blamed: list[tuple[str, str]] = []
        self.accounts = Accounts(
            lambda kind, why: self.refused.append((kind, why)),
            lambda name, why: self.barred.append((name, why)),
            lambda name, kind, _why: self.blamed.append((name, kind)),
            budget=Budget({Cost.REPEATED: Allowance(0, 100), Cost.MESSAGES: Allowance(0, 100)}),
            leniency=Leniency(faults=3, first=10),
            believes=believes,
        )


@pytest.fixture
def book() -> Book:
    return Book()


def test_whatever_is_beyond_its_budget_is_a_fault_and_in_the_end_quarantine(book: Book) -> None:
    charge = book.accounts.charge
    assert charge("a", Cost.REPEATED, 100, 0.0)
    assert not any(charge("a", Cost.REPEATED, 1, 0.0) for _ in range(3))
    assert book.refused == [("over budget", "a is beyond its budget of bytes repeated")] * 3
    assert book.barred == [("a", "quarantined for 10 s: a is beyond its budget of bytes repeated")]
    assert book.blamed == [("a", "over budget")] * 3 + [("a", "quarantine")]
    assert not charge("a", Cost.MESSAGES, 1, 0.0), "whatever it wants"
    assert book.accounts.faults() == {"a": 3}, "what it tries meanwhile is no news"
    assert charge("a", Cost.REPEATED, -100, 1.0), "what has ended is given back"
    assert charge("a", Cost.REPEATED, 100, 10.1)


@pytest.mark.parametrize("believes", [True, False])
def test_a_claim_slows_down_and_is_a_fault_only_where_nobody_has_keys(*, believes: bool) -> None:
    book = Book(believes=believes)
    charged = [book.accounts.charge("a", Cost.MESSAGES, 1, 0.0, proven=False) for _ in range(200)]
    assert sum(charged) == 100
    assert ([name for name, _ in book.barred], bool(book.accounts.faults())) == (["a"] * believes, believes)


def test_what_is_nobodys_fault_is_counted_and_that_is_all(book: Book) -> None:
    for _ in range(100):
        book.accounts.fault(None, "kind", "why", 0.0)
    assert (len(book.refused), book.barred, book.accounts.is_active(0.0)) == (100, [], False)
    assert book.blamed == []


def test_quarantine_is_of_one_peer(book: Book) -> None:
    for _ in range(3):
        book.accounts.fault("a", "kind", "why", 0.0)
    assert book.accounts.is_active(1.0)
    assert [book.accounts.is_quarantined(name, 1.0) for name in ("a", "b", None)] == [True, False, False]
