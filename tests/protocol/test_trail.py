"""A chain of entries that nothing can be changed in, left out of or put into; ledgers that are not what it says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from protocol.errors import TrailError
from protocol.security.keys import PrivateKeys
from protocol.trail import (
    MAX_COUNTS,
    MAX_LINE_BYTES,
    MAX_PEERS,
    MAX_TOLD_APART,
    Occurrence,
    OccurrenceCounter,
    TrailEntry,
    ledger_remarks,
    next_entry,
    read_trail,
)

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
        (lambda lines: [lines[0], "x" * (MAX_LINE_BYTES + 1), *lines[2:]], 2),
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


@pytest.mark.parametrize("ledgers", [5, None, ["a1.json"], {"a1.json": 1}, {"a1.json": "no hash"}])
def test_ledgers_are_hashes_by_name(ledgers: object) -> None:
    line = next_entry(None, "a1", "began", {}, now=0.0, sign=None).line()
    with pytest.raises(TrailError, match="no entry of a trail"):
        list(read_trail([line.replace('"data": {}', f'"data": {{"ledgers": {json.dumps(ledgers)}}}')]))


def test_the_largest_contribution_is_an_entry() -> None:
    values = {f"{number:03}" + "\U0001f600" * 61: -1.2345678901234567e-300 for number in range(256)}
    data = {"values": values, "ledgers": {f"a1.{number}.json": "0" * 64 for number in range(100)}}
    entry = next_entry(None, "a1", "contribution", data, now=0.0, sign=KEYS.signer.sign)
    assert list(read_trail([entry.line()])) == [entry]


class TestOccurrences:
    """What peers can cause is noted now and then, whatever they do."""

    def test_a_flood_leaves_few_entries_and_its_count(self) -> None:
        counter = OccurrenceCounter()
        noted = [counter.add("fault", "x", "malformed") for _ in range(100_000)]
        assert [each[1] for each in noted if each is not None] == [2**k for k in range(17)]
        assert counter.unnoted() == [(Occurrence("fault", "x", "malformed"), 100_000)]

    def test_what_a_peer_invents_is_told_apart_up_to_a_bound_and_hides_no_other_peer(self) -> None:
        counter = OccurrenceCounter()
        noted = [counter.add("question", "x", f"q{number}") for number in range(100_000)]
        assert sum(each is not None for each in noted) == MAX_TOLD_APART + 17
        assert counter.add("fault", "x", "tampered") == (Occurrence("fault", "x", "tampered"), 1)
        assert counter.add("question", "y", "score") == (Occurrence("question", "y", "score"), 1)

    def test_so_many_peers_are_told_apart(self) -> None:
        counter = OccurrenceCounter()
        noted = [counter.add("fault", f"p{number}", "malformed") for number in range(100_000)]
        assert sum(each is not None for each in noted) == MAX_PEERS + 17
        assert sum(each.peer == "" for each, _ in counter.unnoted()) == 1

    def test_memory_is_bounded_whatever_comes(self) -> None:
        counter = OccurrenceCounter()
        for peer in range(MAX_PEERS):
            for what in range(MAX_TOLD_APART):
                counter.add("order", f"p{peer}", f"{what}")
        assert len(counter._counts) <= MAX_COUNTS + MAX_PEERS

    def test_an_order_is_noted_once(self) -> None:
        counter = OccurrenceCounter()
        assert [counter.add("order", "guest", "rounds train k") for _ in range(4)][1:] == [None] * 3
        assert counter.unnoted() == []
