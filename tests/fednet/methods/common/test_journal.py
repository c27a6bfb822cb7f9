"""A run remembers what was measured, by type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from fednet.api import RoundRecord
from fednet.errors import ModelError
from fednet.methods.common.journal import Journal


@dataclass(frozen=True)
class Measured:
    values: tuple[float, ...]
    by_label: dict[int, float | None]


def test_a_measurement_is_done_once_in_a_folder_and_keeps_its_type(tmp_path: Path) -> None:
    count = []

    def measure() -> Measured:
        count.append(1)
        return Measured((1.0, 2.5), {3: 0.1, 4: None})

    found = [Journal(tmp_path).once("key", Measured, measure) for _ in range(3)]
    assert found == [Measured((1.0, 2.5), {3: 0.1, 4: None})] * 3
    assert len(count) == 1


def test_records_of_rounds_come_back_as_they_were(tmp_path: Path) -> None:
    held = (RoundRecord(1, "gan", {"a": 2.0}, {"a": {"loss": 0.1}}, ("b",), {"c": "died"}, {}, "ab", 0.5, "a"),)
    assert Journal(tmp_path).once("key", tuple[RoundRecord, ...], lambda: held) == held
    assert Journal(tmp_path).once("key", tuple[RoundRecord, ...], tuple) == held


def test_what_diverged_is_remembered_as_it_was(tmp_path: Path) -> None:
    measured = {"a1": math.inf, "a2": -math.inf, "a3": 1.0}
    assert Journal(tmp_path).once("key", dict[str, float], lambda: measured) == measured
    assert Journal(tmp_path).once("key", dict[str, float], dict) == measured


def test_one_that_fails_is_done_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ZeroDivisionError):
        journal.once("key", dict[str, float], lambda: {"a": 1 / 0})
    assert journal.once("key", dict[str, float], lambda: {"a": 1.0}) == {"a": 1.0}


def test_an_entry_of_another_type_is_named(tmp_path: Path) -> None:
    Journal(tmp_path).once("key", int, lambda: 3)
    with pytest.raises(ModelError, match="entry 'key' is not of this version"):
        Journal(tmp_path).once("key", Measured, lambda: Measured((), {}))
