"""Quarantine: single faults expire, repeated ones lead to quarantine, and every quarantine ends."""

from __future__ import annotations

from protocol.security.budget import MAX_TRACKED
from protocol.security.quarantine import Leniency, Quarantine

ALLOWED = Leniency(faults=3, forgiveness=5, first=10, longest=60)


def faults(quarantine: Quarantine, count: int, now: float, name: str = "a") -> list[float | None]:
    return [quarantine.record_fault(name, now) for _ in range(count)]


def test_the_last_fault_of_too_many_begins_it() -> None:
    quarantine = Quarantine(ALLOWED)
    assert faults(quarantine, 3, 0.0) == [None, None, 10.0]
    assert quarantine.is_quarantined("a", 9.9)
    assert not quarantine.is_quarantined("a", 10.0)
    assert not quarantine.is_quarantined("b", 5.0)


def test_rare_faults_are_forgiven() -> None:
    quarantine = Quarantine(ALLOWED)
    assert [quarantine.record_fault("a", 5.0 * turn) for turn in range(100)] == [None] * 100


def test_faults_meanwhile_do_not_lengthen_it() -> None:
    quarantine = Quarantine(ALLOWED)
    faults(quarantine, 3, 0.0)
    assert faults(quarantine, 50, 5.0) == [None] * 50
    assert not quarantine.is_quarantined("a", 10.0)


def test_each_is_twice_as_long_up_to_the_longest() -> None:
    quarantine, now, terms = Quarantine(ALLOWED), 0.0, []
    for _ in range(5):
        terms += [seconds for seconds in faults(quarantine, 3, now) if seconds]
        now += terms[-1]
    assert terms == [10, 20, 40, 60, 60]


def test_good_conduct_for_long_enough_is_a_new_beginning() -> None:
    quarantine = Quarantine(ALLOWED)
    faults(quarantine, 3, 0.0)
    assert faults(quarantine, 3, 10.0 + 61.0)[-1] == 10.0


def test_names_without_end_take_no_memory() -> None:
    quarantine = Quarantine(ALLOWED)
    for number in range(5 * MAX_TRACKED):
        quarantine.record_fault(f"n{number}", 0.0)
    assert len(quarantine._records) == len(quarantine.faults()) == MAX_TRACKED


def test_faults_are_counted_by_peer() -> None:
    quarantine = Quarantine(ALLOWED)
    for _ in range(20):
        quarantine.record_fault("a", 0.0)
    assert quarantine.faults() == {"a": 20}, "those during its quarantine, too"
