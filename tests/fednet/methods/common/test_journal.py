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


def test_an_entry_costs_its_own_bytes_however_many_there_are(tmp_path: Path) -> None:
    journal, path = Journal(tmp_path), tmp_path / "journal.jsonl"
    journal.once("key-000", int, lambda: 3)
    line = path.read_bytes()
    for number in range(1, 100):
        before = path.read_bytes()
        journal.once(f"key-{number:03d}", int, lambda: 3)
        assert path.read_bytes() == before + line.replace(b"000", b"%03d" % number)


def test_what_a_kill_has_left_of_the_last_entry_is_measured_again(tmp_path: Path) -> None:
    for key, value in (("first", 1), ("last", 2)):
        Journal(tmp_path).once(key, int, lambda value=value: value)  # type: ignore[misc]
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:end])
        journal = Journal(tmp_path)
        assert journal.once("first", int, lambda: 9) == 1
        assert journal.once("last", int, lambda: 2) == 2
        assert path.read_bytes() == whole


@pytest.mark.parametrize("content", ['{\n  "key": 3\n}\n', "[3, 3]\n", "\n"])
def test_a_journal_of_another_version_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "journal.jsonl").write_text(content)
    with pytest.raises(ModelError, match=r"journal\.jsonl is not of this version"):
        Journal(tmp_path)


def test_a_value_without_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Journal(tmp_path).once("key", object, object)
    assert not (tmp_path / "journal.jsonl").exists()
