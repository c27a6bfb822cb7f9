"""Entries cost what they say, whatever is kept, and what was written is what is read after a loss of power."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from nodes.rounds import journal as journal_module
from nodes.rounds.journal import JOURNAL, JournalEntry, RoundHistory, RoundJournal, by_round
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import RoundCommit


def record(number: int, voter: str = "a") -> RoundCommit:
    return RoundCommit(
        model="m", number=number, term=1, attempt=1, key="k", index=number, rounds=99999, leader="a",
        base="0" * 64, transcript="1" * 64, outcome=BlobRef(digest="2" * 64, size=5), weights={"a": 1.0},
        values={}, late=(), lost={}, refused={}, seconds=0.5, votes={voter: b""},
    )  # fmt: skip


def entry(*records: RoundCommit, term: int = 1) -> JournalEntry:
    return JournalEntry(term=term, versions={}, accepted={}, records=records, history=RoundHistory())


def test_there_is_none_in_an_empty_folder(tmp_path: Path) -> None:
    assert RoundJournal(tmp_path / "none").read() is None


@pytest.mark.parametrize("seed", range(4))
def test_what_is_read_is_the_last_entry_with_the_records_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whether they were appended, replaced as a whole, or written by several incarnations."""
    draw = random.Random(seed)  # noqa: S311
    monkeypatch.setattr(journal_module, "MIN_ROOM", draw.choice([0, 2000, 1 << 20]))
    kept: dict[tuple[str, int], RoundCommit] = {}
    journal = RoundJournal(tmp_path)
    for term in range(1, 60):
        new = [record(draw.randint(1, 40), draw.choice("abc")) for _ in range(draw.randint(0, 3))]
        journal.write(entry(*new, term=term), kept.values())
        kept.update(by_round(new))
        if draw.random() < 0.1:
            journal = RoundJournal(tmp_path)
        found = RoundJournal(tmp_path).read()
        assert found is not None
        assert found.term == term
        assert by_round(found.records) == kept


def test_an_entry_costs_the_same_however_many_records_are_kept(tmp_path: Path) -> None:
    journal, path = RoundJournal(tmp_path), tmp_path / JOURNAL
    kept = [record(number) for number in range(10000, 12000)]
    journal.write(entry(*kept), ())
    whole = path.stat().st_size
    for number in range(12000, 12010):
        before = path.read_bytes()
        journal.write(entry(record(number)), kept)
        assert path.read_bytes().startswith(before)
        assert path.stat().st_size - len(before) == len(entry(record(number)).model_dump_json()) + 1 < whole / 1000


def test_it_is_never_more_than_twice_what_is_kept_and_a_remainder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MIN_ROOM", 5000)
    journal, kept = RoundJournal(tmp_path), [record(number) for number in range(1, 40)]
    written = replaced = 0
    for term in range(1, 1000):
        before = (tmp_path / JOURNAL).stat().st_ino if term > 1 else 0
        journal.write(entry(term=term), kept)
        replaced += (tmp_path / JOURNAL).stat().st_ino != before
        written += len(entry(term=term).model_dump_json()) + 1
        assert (tmp_path / JOURNAL).stat().st_size <= 2 * len(entry(*kept, term=term).model_dump_json()) + 5000
    assert replaced <= 1 + written / 5000


def test_what_a_loss_of_power_has_left_of_the_last_entry_counts_for_nothing(tmp_path: Path) -> None:
    journal, path = RoundJournal(tmp_path), tmp_path / JOURNAL
    journal.write(entry(record(1)), ())
    first = path.stat().st_size
    journal.write(entry(record(2), term=2), [record(1)])
    whole = path.read_bytes()
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert RoundJournal(tmp_path).read() == entry(record(1))
    journal = RoundJournal(tmp_path)
    journal.write(entry(record(3), term=3), [record(1)])
    assert RoundJournal(tmp_path).read() == entry(record(1), record(3), term=3)


def test_a_part_of_the_first_entry_is_refused(tmp_path: Path) -> None:
    RoundJournal(tmp_path).write(entry(record(1)), ())
    whole = (tmp_path / JOURNAL).read_bytes()
    for end in range(len(whole) - 1):
        (tmp_path / JOURNAL).write_bytes(whole[:end])
        with pytest.raises(ValidationError):
            RoundJournal(tmp_path).read()


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"\xff", b'{"term": 1}'])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_that_is_no_entry_is_refused_wherever_it_is(tmp_path: Path, line: bytes, place: int) -> None:
    journal, path = RoundJournal(tmp_path), tmp_path / JOURNAL
    for number in (1, 2):
        journal.write(entry(record(number), term=number), [record(1)])
    lines = path.read_bytes().splitlines()
    lines.insert(place, line)
    path.write_bytes(b"".join(each + b"\n" for each in lines))
    with pytest.raises(ValidationError):
        RoundJournal(tmp_path).read()


def test_after_a_failure_it_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the failed entry has left on the disk, if anything, is gone with the next one."""
    journal, path = RoundJournal(tmp_path), tmp_path / JOURNAL
    journal.write(entry(record(1)), ())

    def broken(descriptor: int) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="disk is gone"):
            journal.write(entry(term=9), [record(1)])
    assert RoundJournal(tmp_path).read() == entry(record(1))
    before = path.stat().st_ino
    journal.write(entry(term=2), [record(1)])
    assert path.stat().st_ino != before
    assert RoundJournal(tmp_path).read() == entry(record(1), term=2)
