"""A chain of entries that nothing can be changed in, left out of or put into; ledgers that are not what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import TrailError
from protocol.security.keys import PrivateKeys
from protocol.trail import TrailEntry, ledger_remarks, next_entry, read_trail

KEYS = PrivateKeys.make("a1")


def chain(count: int = 4, sign: Callable[[bytes], bytes] | None = KEYS.signer.sign) -> list[str]:
    entries: list[TrailEntry] = []
    for number in range(count):
        last = entries[-1] if entries else None
        entries.append(next_entry(last, "a1", "question", {"count": number}, now=float(number), sign=sign))
    return [entry.line() for entry in entries]


def test_a_chain_is_read_as_it_was_written() -> None:
    entries = list(read_trail(chain(), KEYS.signer.public_key()))
    assert [(entry.number, entry.data) for entry in entries] == [(k + 1, {"count": k}) for k in range(4)]


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda lines: [lines[0], lines[2], lines[3]], 2),
        (lambda lines: [lines[0], lines[1].replace(": 1}", ": 7}"), *lines[2:]], 3),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines, lines[-1]], 5),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], "{}", *lines[2:]], 2),
        (lambda lines: [lines[0], "x" * 100_000, *lines[2:]], 2),
    ],
)
def test_whatever_is_changed_is_seen_where_it_is(broken: Callable[[list[str]], list[str]], line: int) -> None:
    with pytest.raises(TrailError, match=f"line={line}"):
        list(read_trail(broken(chain(sign=None))))


def test_an_entry_that_another_has_signed_or_nobody_is_refused() -> None:
    other = PrivateKeys.make("a2")
    for sign in (other.signer.sign, None):
        with pytest.raises(TrailError, match="not signed by the key of a1"):
            list(read_trail(chain(sign=sign), KEYS.signer.public_key()))


def test_a_cut_end_is_no_break_but_the_ledgers_are_ahead_of_it() -> None:
    assert len(list(read_trail(chain()[:2], KEYS.signer.public_key()))) == 2
    (remark,) = ledger_remarks([{"a1.json": "1"}], {"a1.json": "2"})
    assert "after the last note" in remark


def test_ledgers_that_were_deleted_or_set_back_are_named() -> None:
    noted = [{"a1.json": "1"}, {"a1.json": "2", "revealed.jsonl": "5"}, {"a1.json": "3"}]
    assert ledger_remarks(noted, {"a1.json": "3", "revealed.jsonl": "5"}) == []
    assert ledger_remarks(noted, {"a1.json": "1", "revealed.jsonl": "5"}) == ["the ledger a1.json was set back"]
    assert ledger_remarks(noted, {"a1.json": "3"}) == ["the ledger revealed.jsonl was deleted"]
