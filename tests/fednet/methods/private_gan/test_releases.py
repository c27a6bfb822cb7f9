"""What was contributed is kept, by what decides it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fednet.api import RoundTask, Update
from fednet.errors import ModelError
from fednet.methods.private_gan.releases import MAX_KEPT, ReleaseStore, StoredRelease, release_key
from fednet.privacy.ledger import LedgerEntry

STATE = {"w": torch.arange(3.0), "n": torch.tensor(2)}


ENTRY = LedgerEntry(key="k", rate=0.1, noise=1.0, steps=3, attempt="ab", released=False)


def test_everything_that_decides_a_contribution_is_in_its_key() -> None:
    task = RoundTask("gan", "train", 1, {"a": 1})
    keys = [
        release_key(task, STATE, {"noise": 1}),
        release_key(RoundTask("gan", "train", 2, {"a": 1}), STATE, {"noise": 1}),
        release_key(RoundTask("classifier", "train", 1, {"a": 1}), STATE, {"noise": 1}),
        release_key(RoundTask("gan", "train", 1, {"a": 2}), STATE, {"noise": 1}),
        release_key(task, {**STATE, "n": torch.tensor(3)}, {"noise": 1}),
        release_key(task, STATE, {"noise": 2}),
    ]
    assert len(set(keys)) == len(keys)
    assert release_key(RoundTask("gan", "train", 1, {"a": 1}), dict(reversed(STATE.items())), {"noise": 1}) == keys[0]


@pytest.mark.parametrize("entry", [ENTRY, None])
def test_a_contribution_comes_back_as_it_was(tmp_path: Path, entry: LedgerEntry | None) -> None:
    releases = ReleaseStore(tmp_path / "r")
    assert releases.recall("k") is None
    releases.keep("k", StoredRelease(Update(STATE, 7.0, {"loss": 0.1, "worst": float("inf")}), entry))
    found = ReleaseStore(tmp_path / "r").recall("k")
    assert found is not None
    assert found.entry == entry
    assert (found.update.weight, found.update.values) == (7.0, {"loss": 0.1, "worst": float("inf")})
    assert torch.equal(found.update.state["w"], STATE["w"])
    assert torch.equal(found.update.state["n"], STATE["n"])


def test_one_that_was_kept_before_there_were_reservations_is_paid_already(tmp_path: Path) -> None:
    save_file(dict(STATE), tmp_path / "k.safetensors", {"release": json.dumps({"weight": 1.0, "values": {}})})
    found = ReleaseStore(tmp_path).recall("k")
    assert found is not None
    assert found.entry is None


def test_the_latest_are_kept(tmp_path: Path) -> None:
    releases = ReleaseStore(tmp_path)
    for number in range(MAX_KEPT + 3):
        releases.keep(str(number), StoredRelease(Update(STATE, 1.0), None))
    assert [number for number in range(MAX_KEPT + 3) if releases.recall(str(number))] == list(range(3, MAX_KEPT + 3))


def test_a_damaged_one_is_refused_and_not_made_anew(tmp_path: Path) -> None:
    releases = ReleaseStore(tmp_path)
    releases.keep("k", StoredRelease(Update(STATE, 1.0), ENTRY))
    path = tmp_path / "k.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="paid a second time"):
        releases.recall("k")
