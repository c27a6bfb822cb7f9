"""Answers without noise are counted on the disk before they leave, across processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fednet.errors import PrivacyError
from fednet.privacy.disclosures import DisclosureLedger


def test_an_answer_is_on_the_disk_when_it_may_leave(tmp_path: Path) -> None:
    ledger = DisclosureLedger(tmp_path / "privacy", "a1")
    assert ledger.entries() == ()
    assert ledger.disclose("audit", 30, 3) == 2
    (entry,) = DisclosureLedger(tmp_path / "privacy", "a1").entries()
    assert (entry.question, entry.times, entry.pictures) == ("audit", 1, 30)


def test_every_question_has_a_count_of_its_own(tmp_path: Path) -> None:
    ledger = DisclosureLedger(tmp_path, "a1")
    ledger.disclose("audit", 30, 1)
    ledger.disclose("leakage", 20, 1)
    with pytest.raises(PrivacyError, match="'audit' was answered 1 times, and 1 are permitted"):
        DisclosureLedger(tmp_path, "a1").disclose("audit", 30, 1)
    assert DisclosureLedger(tmp_path, "a2").entries() == ()


def test_a_damaged_ledger_lets_nothing_out(tmp_path: Path) -> None:
    ledger = DisclosureLedger(tmp_path, "a1")
    ledger.path.write_text('{"entries": [{"question": "audit", "times": 0, "pictures": 1}]}')
    with pytest.raises(PrivacyError, match="is no ledger of disclosures"):
        ledger.disclose("audit", 30, 3)


def test_nothing_leaves_where_the_ledger_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        DisclosureLedger(tmp_path / "file", "a1").disclose("audit", 30, 3)
