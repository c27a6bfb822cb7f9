"""What the quick suite has of the combinations covers every pair of values, or every value; the slow one has all."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

from tests.cases import covering, first

AXES = ("ab", "cdef", "gh", "ij")


def quick(cases: list[Any]) -> set[tuple[str, ...]]:
    return {case.values for case in cases if not case.marks}


def test_all_combinations_are_there_once() -> None:
    assert [case.values for case in covering(*AXES)] == list(product(*AXES))


def test_every_pair_of_values_is_quick() -> None:
    held = quick(covering(*AXES))
    for one, other in combinations(range(len(AXES)), 2):
        assert {(case[one], case[other]) for case in held} == set(product(AXES[one], AXES[other]))
    assert len(held) < len(list(product(*AXES))) / 2


def test_every_value_is_quick_and_about_as_often_as_the_others() -> None:
    held = quick(covering("ab", "cdef", together=1))
    assert [sum(case[0] == value for case in held) for value in "ab"] == [2, 2]
    assert [sum(case[1] == value for case in held) for value in "cdef"] == [1, 1, 1, 1]


def test_the_choice_is_the_same_every_time() -> None:
    assert quick(covering(*AXES)) == quick(covering(*AXES))


def test_the_first_values_are_quick_and_all_are_there() -> None:
    cases = first(2, range(4))
    assert [case.values for case in cases] == [(0,), (1,), (2,), (3,)]
    assert quick(cases) == {(0,), (1,)}
