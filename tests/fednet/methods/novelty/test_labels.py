"""Lists of labels as texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fednet.api import Scalar
from fednet.errors import MethodError
from fednet.methods.novelty.labels import LabelSpec, format_labels, labels_for, labels_options, parse_labels


@given(st.sets(st.integers(0, 99), min_size=1))
def test_what_is_written_is_read(labels: set[int]) -> None:
    assert parse_labels(format_labels(labels), 100) == tuple(sorted(labels))


def test_ranges_and_numbers_mix() -> None:
    assert parse_labels("7, 0-2,1", 10) == (0, 1, 2, 7)
    assert format_labels((0, 1, 2, 7)) == "0-2,7"


@pytest.mark.parametrize(
    "text", ["", "a", "-1", "3-1", "10", "0-10", "1,,2", "0x1", "1.5", "\u0661", "0-" + "9" * 5000]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(MethodError, match=r"labels|characters"):
        parse_labels(text, 10)


def test_a_node_s_own_list_goes_first() -> None:
    lists: dict[str, LabelSpec] = {"a2": (1, 2), "a3": "4"}
    options: dict[str, Scalar] = {"labels": "0-3", **labels_options(lists)}
    assert [labels_for(node, options, 10) for node in ("a1", "a2", "a3")] == [(0, 1, 2, 3), (1, 2), (4,)]
    assert labels_for("a1", {}, 10) is None


def test_labels_that_are_no_text_are_refused() -> None:
    with pytest.raises(MethodError, match="text"):
        labels_for("a1", {"labels": 3}, 10)
