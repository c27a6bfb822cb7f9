"""Options from other nodes are read or refused with what was expected."""

from __future__ import annotations

import math

import pytest

from fednet.api import Scalar
from fednet.errors import MethodError
from fednet.methods.common.options import choice, number, require_known, required_whole_number, shown, whole_number


def test_what_fits_is_returned_and_what_is_missing_has_its_default() -> None:
    options: dict[str, Scalar] = {"steps": 3, "mu": 0.5, "model": "gan", "nothing": None}
    assert whole_number(options, "steps", None) == required_whole_number(options, "steps") == 3
    assert whole_number(options, "else", 7) == whole_number(options, "nothing", 7) == 7
    assert number(options, "mu") == 0.5
    assert number(options, "steps") == 3.0
    assert number(options, "else") is None
    assert choice(options, "model", ("gan", "classifier")) == "gan"
    assert choice(options, "else", ("gan", "classifier"), "classifier") == "classifier"


@pytest.mark.parametrize("value", [True, 0, -1, 1.0, "3", 1_000_001])
def test_what_is_no_whole_number_is_refused(value: Scalar) -> None:
    with pytest.raises(MethodError, match="option steps must be a whole number from 1 to 1000000, got"):
        whole_number({"steps": value}, "steps", 1)


def test_a_required_number_must_be_there() -> None:
    with pytest.raises(MethodError, match="got nothing"):
        required_whole_number({}, "round")


@pytest.mark.parametrize("value", [True, -0.1, math.inf, math.nan, "much"])
def test_what_is_no_amount_is_refused(value: Scalar) -> None:
    with pytest.raises(MethodError, match="option mu must be a number of at least 0, got"):
        number({"mu": value}, "mu")


@pytest.mark.parametrize("value", ["else", 1, None])
def test_a_choice_is_one_of_those_allowed(value: Scalar) -> None:
    with pytest.raises(MethodError, match="option model must be one of gan, classifier, got"):
        choice({"model": value}, "model", ("gan", "classifier"))


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    require_known("train", ("train", "average"), "task", "a1")
    with pytest.raises(MethodError, match=r"^a1: unknown task 'else'; expected one of train, average$"):
        require_known("else", ("train", "average"), "task", "a1")


def test_long_values_are_cut() -> None:
    assert shown("x") == "'x'"
    assert len(shown("x" * 1000)) < 50
