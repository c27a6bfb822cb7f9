"""What a member keeps of every model, and resumes when it starts again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.errors import ModelError
from fednet.federated.packed_state import PackedState
from nodes.rounds import checkpoints
from nodes.rounds.checkpoints import Checkpoint, CheckpointStore
from nodes.rounds.journal import JOURNAL
from protocol.certificates import vote_for
from protocol.messages.election import MAX_RECORDS
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import RoundCommit
from protocol.rounds import version_after

PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="w", rounds=9999, federation="{}", options={})


def checkpoint(number: int, value: float = 0.0, key: str = "k") -> Checkpoint:
    return Checkpoint.of(PackedState.of({"w": torch.full((3,), value)}), number, key, number)


def record(number: int, left: Checkpoint, term: int = 1, key: str = "k", model: str = "m") -> RoundCommit:
    return RoundCommit(
        model=model, number=number, term=term, attempt=1, key=key, index=number, rounds=9999, leader="a",
        base="0" * 64, transcript="1" * 64,
        outcome=left.version.outcome, weights={"a": 1.0}, values={"a": {"loss": float("inf")}}, late=("b",),
        lost={"c": "left"}, refused={}, seconds=0.5,
    )  # fmt: skip


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.version == other.version and one.packed.file == other.packed.file


def test_a_later_incarnation_resumes_everything(tmp_path: Path) -> None:
    store, first, second = CheckpointStore(tmp_path), checkpoint(1, 1.0), checkpoint(2, 2.0)
    store.adopt("m", checkpoint(0), 0)
    store.adopt("m", first, 3, record(1, first, 3))
    store.vote(PLAN, record(2, second, 4), second)
    again = CheckpointStore(tmp_path)
    assert again.term == 4
    assert again.versions() == {"m": first.version}
    assert same(again.checkpoints["m"], first)
    assert torch.equal(again.checkpoints["m"].state["w"], first.state["w"])
    assert again.accepted() == store.accepted()
    assert same(again.votes["m"].checkpoint, second)
    assert again.records_of("k") == store.records_of("k") == [record(1, first, 3)]


def test_the_journal_is_json_also_where_numbers_are_not_finite(tmp_path: Path) -> None:
    store, outcome = CheckpointStore(tmp_path), checkpoint(1)
    plan = PLAN.model_copy(update={"options": {"least": float("-inf"), "name": "NaN-free", "steps": 3}})
    store.vote(plan, record(1, outcome), outcome)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / JOURNAL).read_text(), parse_constant=refuse)
    assert CheckpointStore(tmp_path).accepted() == store.accepted()


def test_a_vote_is_over_once_its_round_is_closed(tmp_path: Path) -> None:
    store, first, second = CheckpointStore(tmp_path), checkpoint(1, 1.0), checkpoint(2, 2.0)
    store.vote(PLAN, record(2, second), second)
    store.adopt("m", first, 1)
    assert store.accepted().keys() == {"m"}, "it is about a later round"
    store.adopt("n", checkpoint(5), 1)
    assert store.accepted().keys() == {"m"}, "it is about another model"
    store.adopt("m", second, 1, record(2, second))
    assert not store.accepted()
    assert not CheckpointStore(tmp_path).accepted()
    assert len(list(tmp_path.glob("*.safetensors"))) == 2, "what nobody needs any more is removed"


def test_a_term_never_falls(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.promise(7)
    store.adopt("m", checkpoint(0), 0)
    store.promise(3)
    assert store.term == CheckpointStore(tmp_path).term == 7


def test_nothing_is_kept_without_a_folder() -> None:
    store = CheckpointStore(None)
    store.promise(2)
    store.adopt("m", checkpoint(1), 1)
    assert store.versions() == {"m": checkpoint(1).version}


def test_missing_records_are_known_learned_and_answered() -> None:
    store, states = CheckpointStore(None), [checkpoint(number, float(number)) for number in range(5)]
    assert store.first_missing("m") is None
    store.adopt("m", states[1], 1, record(1, states[1]))
    assert store.first_missing("m") is None
    store.adopt("m", states[4], 1)
    assert store.first_missing("m") == 2
    assert store.rounds_done("k") == 4, "so much is known by its place"
    assert store.learn(record(3, states[3]))
    assert not store.learn(record(3, states[3]))
    assert store.learn(record(2, states[2]))
    assert store.first_missing("m") == 4
    assert not store.learn(record(5, states[4])), "that is a round to come"
    assert not store.learn(record(1, states[1], model="other"))
    assert [each.number for each in store.records_after("m", 1)] == [2, 3]
    assert [each.index for each in store.records_of("k")] == [1, 2, 3]


def test_a_record_request_is_answered_with_the_earliest() -> None:
    store, state = CheckpointStore(None), checkpoint(MAX_RECORDS + 9)
    store.adopt("m", state, 1)
    for number in reversed(range(1, MAX_RECORDS + 9)):
        store.learn(record(number, state))
    assert [each.number for each in store.records_after("m", 3)] == list(range(4, MAX_RECORDS + 4))


def test_the_latest_record_of_a_round_counts() -> None:
    store, one, other = CheckpointStore(None), checkpoint(1, 1.0), checkpoint(1, 2.0)
    store.adopt("m", one, 1, record(1, one, 1))
    store.adopt("m", other, 2, record(1, other, 2))
    assert store.records_of("k") == store.records_after("m", 0) == [record(1, other, 2)]
    assert version_after(store.records_of("k")[0]) == store.checkpoints["m"].version


def spoiled(journal: dict[str, Any]) -> list[dict[str, Any]]:
    other = json.loads(json.dumps(journal))
    other["versions"]["m"]["outcome"]["digest"] = "0" * 64
    size = json.loads(json.dumps(journal))
    size["versions"]["m"]["outcome"]["size"] += 1
    name = json.loads(json.dumps(journal))
    name["versions"]["../m"] = name["versions"].pop("m")
    return [other, size, name, {}, {**journal, "term": "x"}, {**journal, "more": 1}, {**journal, "records": [{}]}]


@pytest.mark.parametrize("which", range(7))
def test_an_altered_journal_is_refused(tmp_path: Path, which: int) -> None:
    store = CheckpointStore(tmp_path)
    store.adopt("m", checkpoint(1), 1, record(1, checkpoint(1)))
    journal = json.loads((tmp_path / JOURNAL).read_text())
    (tmp_path / JOURNAL).write_text(json.dumps(spoiled(journal)[which]))
    with pytest.raises(ModelError, match="remove it to begin anew"):
        CheckpointStore(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"{", b"[]"])
def test_an_invalid_journal_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(data)
    with pytest.raises(ModelError, match="remove it to begin anew"):
        CheckpointStore(tmp_path)


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, first = CheckpointStore(tmp_path), checkpoint(1)
    store.adopt("m", first, 1, record(1, first))

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("nodes.rounds.journal.LineFile.append", full)
    monkeypatch.setattr("nodes.rounds.journal.write_whole", full)
    with pytest.raises(OSError, match="no space"):
        store.adopt("m", checkpoint(2, 2.0), 2, record(2, checkpoint(2, 2.0)))
    with pytest.raises(OSError, match="no space"):
        store.promise(5)
    assert (store.term, store.versions(), len(store.records)) == (1, {"m": first.version}, 1)
    assert same(CheckpointStore(tmp_path).checkpoints["m"], first)


def test_terms_votes_and_outcomes_survive_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is flushed to the disk, with the name of its file, before anybody is told."""
    store, first, flushed = CheckpointStore(tmp_path / "rounds"), checkpoint(1), list[str]()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    steps: dict[str, Callable[[], None]] = {
        "promise": lambda: store.promise(3),
        "vote": lambda: store.vote(PLAN, record(1, first), first),
        "adopt": lambda: store.adopt("m", first, 3, record(1, first)),
    }
    for name, step in steps.items():
        flushed.clear()
        step()
        assert any(JOURNAL in each for each in flushed), name
        assert str(tmp_path / "rounds") in flushed, name
        assert Path(flushed[-1]) in {tmp_path / "rounds", tmp_path / "rounds" / JOURNAL}, name
        assert (name == "vote") == any(".safetensors" in each for each in flushed)


def test_votes_that_arrive_after_the_outcome_are_on_disk_with_the_next_entry(tmp_path: Path) -> None:
    store, first = CheckpointStore(tmp_path), checkpoint(1)
    store.adopt("m", first, 1, record(1, first))
    for name in ("a", "b"):
        store.add_vote(name, vote_for(record(1, first)).model_copy(update={"signature": name.encode() * 64}))
    store.add_vote("a", vote_for(record(1, first)).model_copy(update={"signature": b"c" * 64}))
    assert CheckpointStore(tmp_path).records == [record(1, first)]
    store.promise(2)
    for each_store in (store, CheckpointStore(tmp_path)):
        assert [each.votes for each in each_store.records] == [{"a": b"a" * 64, "b": b"b" * 64}]
    size = (tmp_path / JOURNAL).stat().st_size
    store.promise(3)
    assert (tmp_path / JOURNAL).stat().st_size - size < len(record(1, first).model_dump_json())


def test_values_in_the_journal_may_be_infinite_or_nan(tmp_path: Path) -> None:
    store, first = CheckpointStore(tmp_path), checkpoint(1)
    infinite = record(1, first).model_copy(update={"values": {"a": {"up": float("inf"), "not": float("nan")}}})
    store.adopt("m", first, 1, infinite)
    (again,) = CheckpointStore(tmp_path).records
    assert repr(again) == repr(infinite)


def test_old_records_are_forgotten_and_their_rounds_are_not_held_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MAX_RECORDS_KEPT", 3)
    store = CheckpointStore(tmp_path)
    for number in range(1, 8):
        left = checkpoint(number, float(number), key=f"k{number // 3}")
        store.adopt("m", left, 1, record(number, left, key=f"k{number // 3}"))
    for each_store in (store, CheckpointStore(tmp_path)):
        assert [record.number for record in each_store.records] == [5, 6, 7]
        assert [each_store.rounds_done(key) for key in ("k0", "k1", "k2", "k3")] == [2, 5, 7, 0]
        assert [each_store.forgotten("k1", after) for after in (3, 4)] == [True, False]
        assert each_store.first_missing("m") is None
        assert not each_store.forgotten("k2", 0)
    store.adopt("m", checkpoint(9, 9.0), 1, record(9, checkpoint(9, 9.0)))
    assert store.first_missing("m") == 8
