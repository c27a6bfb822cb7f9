"""What a member keeps of every model, and what it finds when it starts again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.errors import ModelError
from nodes.rounds import checkpoints as models_module
from nodes.rounds.checkpoints import JOURNAL_FILE, Checkpoint, CheckpointStore
from nodes.rounds.conversion import version_after
from protocol.messages.rounds import MAX_RECORDS, RoundCommit, RoundPlanMessage

PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="w", rounds=9, federation="{}", options={})


def kept(number: int, value: float = 0.0, key: str = "k") -> Checkpoint:
    return Checkpoint.of({"w": torch.full((3,), value)}, number, key, number)


def record(number: int, left: Checkpoint, term: int = 1, key: str = "k", model: str = "m") -> RoundCommit:
    return RoundCommit(
        model=model, number=number, term=term, attempt=1, key=key, index=number, rounds=9, leader="a",
        outcome=left.standing.outcome, weights={"a": 1.0}, values={"a": {"loss": float("inf")}}, late=("b",),
        lost={"c": "left"}, refused={}, seconds=0.5,
    )  # fmt: skip


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.standing == other.standing and bytes(one.packed) == bytes(other.packed)


def test_a_later_life_finds_everything_again(tmp_path: Path) -> None:
    models, first, second = CheckpointStore(tmp_path), kept(1, 1.0), kept(2, 2.0)
    models.adopt("m", kept(0), 0)
    models.adopt("m", first, 3, record(1, first, 3))
    models.vote(PLAN, record(2, second, 4), second)
    again = CheckpointStore(tmp_path)
    assert again.term == 4
    assert again.standings() == {"m": first.standing}
    assert same(again.kept["m"], first)
    assert torch.equal(again.kept["m"].state["w"], first.state["w"])
    assert again.voted() == models.voted()
    assert same(again.votes["m"].kept, second)
    assert again.of("k") == models.of("k") == [record(1, first, 3)]


def test_a_vote_is_over_once_its_round_is_closed(tmp_path: Path) -> None:
    models, first, second = CheckpointStore(tmp_path), kept(1, 1.0), kept(2, 2.0)
    models.vote(PLAN, record(2, second), second)
    models.adopt("m", first, 1)
    assert models.voted().keys() == {"m"}, "it is about a later round"
    models.adopt("n", kept(5), 1)
    assert models.voted().keys() == {"m"}, "it is about another model"
    models.adopt("m", second, 1, record(2, second))
    assert not models.voted()
    assert not CheckpointStore(tmp_path).voted()
    assert len(list(tmp_path.glob("*.safetensors"))) == 2, "what nobody needs any more is removed"


def test_a_term_never_falls(tmp_path: Path) -> None:
    models = CheckpointStore(tmp_path)
    models.record_promise(7)
    models.adopt("m", kept(0), 0)
    models.record_promise(3)
    assert models.term == CheckpointStore(tmp_path).term == 7


def test_nothing_is_kept_without_a_folder() -> None:
    models = CheckpointStore(None)
    models.record_promise(2)
    models.adopt("m", kept(1), 1)
    assert models.standings() == {"m": kept(1).standing}


def test_what_was_missed_is_known_learned_and_told() -> None:
    models, states = CheckpointStore(None), [kept(number, float(number)) for number in range(5)]
    assert models.missing("m") is None
    models.adopt("m", states[1], 1, record(1, states[1]))
    assert models.missing("m") is None
    models.adopt("m", states[4], 1)
    assert models.missing("m") == 2
    assert models.done("k") == 4, "so much is known by its place"
    assert models.learn(record(3, states[3]))
    assert not models.learn(record(3, states[3]))
    assert models.learn(record(2, states[2]))
    assert models.missing("m") == 4
    assert not models.learn(record(5, states[4])), "that is a round to come"
    assert not models.learn(record(1, states[1], model="other"))
    assert [each.number for each in models.recalled("m", 1)] == [2, 3]
    assert [each.index for each in models.of("k")] == [1, 2, 3]


def test_a_recall_is_answered_with_the_earliest() -> None:
    models, state = CheckpointStore(None), kept(MAX_RECORDS + 9)
    models.adopt("m", state, 1)
    for number in reversed(range(1, MAX_RECORDS + 9)):
        models.learn(record(number, state))
    assert [each.number for each in models.recalled("m", 3)] == list(range(4, MAX_RECORDS + 4))


def test_the_last_that_was_told_of_a_round_counts() -> None:
    models, one, other = CheckpointStore(None), kept(1, 1.0), kept(1, 2.0)
    models.adopt("m", one, 1, record(1, one, 1))
    models.adopt("m", other, 2, record(1, other, 2))
    assert models.of("k") == models.recalled("m", 0) == [record(1, other, 2)]
    assert version_after(models.of("k")[0]) == models.kept["m"].standing


def spoiled(journal: dict[str, Any]) -> list[dict[str, Any]]:
    other = json.loads(json.dumps(journal))
    other["standings"]["m"]["outcome"]["digest"] = "0" * 64
    size = json.loads(json.dumps(journal))
    size["standings"]["m"]["outcome"]["size"] += 1
    name = json.loads(json.dumps(journal))
    name["standings"]["../m"] = name["standings"].pop("m")
    return [other, size, name, {}, {**journal, "term": "x"}, {**journal, "more": 1}, {**journal, "records": [{}]}]


@pytest.mark.parametrize("which", range(7))
def test_a_journal_that_lies_is_refused(tmp_path: Path, which: int) -> None:
    models = CheckpointStore(tmp_path)
    models.adopt("m", kept(1), 1, record(1, kept(1)))
    journal = json.loads((tmp_path / JOURNAL_FILE).read_text())
    (tmp_path / JOURNAL_FILE).write_text(json.dumps(spoiled(journal)[which]))
    with pytest.raises(ModelError, match="remove it to begin anew"):
        CheckpointStore(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"{", b"[]"])
def test_a_journal_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(data)
    with pytest.raises(ModelError, match="remove it to begin anew"):
        CheckpointStore(tmp_path)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, first = CheckpointStore(tmp_path), kept(1)
    models.adopt("m", first, 1, record(1, first))

    def full(path: Path, data: bytes) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("nodes.rounds.checkpoints.write_whole", full)
    with pytest.raises(OSError, match="no space"):
        models.adopt("m", kept(2, 2.0), 2, record(2, kept(2, 2.0)))
    with pytest.raises(OSError, match="no space"):
        models.record_promise(5)
    assert (models.term, models.standings(), len(models.records)) == (1, {"m": first.standing}, 1)
    assert same(CheckpointStore(tmp_path).kept["m"], first)


def test_what_was_measured_need_not_be_finite(tmp_path: Path) -> None:
    models, first = CheckpointStore(tmp_path), kept(1)
    said = record(1, first).model_copy(update={"values": {"a": {"up": float("inf"), "not": float("nan")}}})
    models.adopt("m", first, 1, said)
    (again,) = CheckpointStore(tmp_path).records
    assert repr(again) == repr(said)


def test_old_records_are_forgotten_and_their_rounds_are_not_held_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_module, "MOST_RECORDS", 3)
    models = CheckpointStore(tmp_path)
    for number in range(1, 8):
        left = kept(number, float(number), key=f"k{number // 3}")
        models.adopt("m", left, 1, record(number, left, key=f"k{number // 3}"))
    for life in (models, CheckpointStore(tmp_path)):
        assert [each.number for each in life.records] == [5, 6, 7]
        assert [life.done(key) for key in ("k0", "k1", "k2", "k3")] == [2, 5, 7, 0]
        assert [life.forgotten("k1", after) for after in (3, 4)] == [True, False]
        assert life.missing("m") is None
        assert not life.forgotten("k2", 0)
    models.adopt("m", kept(9, 9.0), 1, record(9, kept(9, 9.0)))
    assert models.missing("m") == 8
