"""Lists of labels as an operator writes them."""

from __future__ import annotations

import pytest

from fednet.data.label_ranges import parse_label_ranges
from fednet.errors import UsageError


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0-9", tuple(range(10))),
        ("3", (3,)),
        ("1,3,7", (1, 3, 7)),
        ("0-2, 8", (0, 1, 2, 8)),
        ("cat, t-shirt,3", ("cat", "t-shirt", 3)),
    ],
)
def test_numbers_and_ranges(text: str, labels: tuple[int | str, ...]) -> None:
    assert parse_label_ranges(text) == labels


@pytest.mark.parametrize("text", ["", "3-", "-3", "5-2", "1,,2", "0-9-12", "0-99999999999"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names, numbers and ranges"):
        parse_label_ranges(text)
