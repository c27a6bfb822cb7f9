"""What a site was ordered and asked, and what it gave, on the disk before it leaves; and ledgers that were set back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, RoundTask, Update
from nodes.errors import NodeError
from nodes.trail import Trail, TrailedParticipant, trail_file
from protocol.messages import QueryRequest
from protocol.security.keys import Keyring, PrivateKeys
from protocol.trail import TrailEntry, read_trail

KEYS = Keyring.of(PrivateKeys.make("a1"), ())


class Site:
    """A participant with a ledger."""

    def __init__(self, folder: Path) -> None:
        self.ledgers = folder / "privacy"
        self.ledgers.mkdir(exist_ok=True)

    def initial_state(self, model: str) -> dict[str, torch.Tensor]:
        return {"w": torch.zeros(2)}

    def contribute(self, task: RoundTask, base: Any, progress: Any) -> Update:
        (self.ledgers / "a1.json").write_text(f"round {task.number}")
        return Update({"w": torch.ones(2)}, 3.0, {"epsilon_rdp": 1.5, "loss": float("nan")})

    def adopt(self, model: str, number: int, state: Any) -> None:
        pass


def trail(folder: Path, keys: Keyring | None = KEYS) -> Trail:
    return Trail(trail_file(folder, "a1"), "a1", keys, folder / "closed")


def entries(folder: Path, *kinds: str) -> list[TrailEntry]:
    lines = trail_file(folder, "a1").read_text().splitlines()
    found = list(read_trail(lines, KEYS.own.signer.public_key()))
    return [entry for entry in found if not kinds or entry.kind in kinds]


def asked(made: Trail, sender: str, task: str) -> None:
    query = QueryRequest(query=1, oldest_open=0, task=task, inputs={}, options={}, ttl=1.0)
    made.handlers[QueryRequest](SimpleNamespace(sender=sender), query)  # type: ignore[arg-type]


def test_what_leaves_is_noted_before_it_does(tmp_path: Path) -> None:
    made, site = trail(tmp_path), Site(tmp_path)
    made.begin(site)
    update = TrailedParticipant(site, made).contribute(RoundTask("gan", "train", 1), {}, NullProgress())
    (entry,) = entries(tmp_path, "contribution")
    assert update.weight == entry.data["weight"] == 3.0
    assert entry.data["values"] == {"epsilon_rdp": 1.5}
    assert set(entry.data["ledgers"]) == {"a1.json"}
    TrailedParticipant(site, made).adopt("gan", 1, update.state)
    assert entries(tmp_path, "adopted")[0].data["digest"] == entry.data["digest"]


def test_questions_are_counted_and_not_a_line_each(tmp_path: Path) -> None:
    made = trail(tmp_path)
    made.begin(object())
    for _ in range(100):
        asked(made, "guest", "score")
    asked(made, "other", "score")
    made.refused("other", "audit", "no\nthanks")
    made.end()
    noted = [(entry.data["peer"], entry.data["count"]) for entry in entries(tmp_path, "question")]
    assert noted == [("guest", 2**k) for k in range(7)] + [("other", 1)]
    assert entries(tmp_path, "refusal")[0].data["reason"] == "no thanks"
    assert ["question", "guest", "score", 100] in entries(tmp_path, "ended")[0].data["counts"]


@pytest.mark.parametrize(("after", "remark"), [(None, "was deleted"), ("round 1", "was set back")])
def test_a_ledger_that_is_not_what_it_was_is_evident(tmp_path: Path, after: str | None, remark: str) -> None:
    made, site = trail(tmp_path), Site(tmp_path)
    made.begin(site)
    for number in (1, 2):
        TrailedParticipant(site, made).contribute(RoundTask("gan", "train", number), {}, NullProgress())
    made.end()
    ledger = site.ledgers / "a1.json"
    ledger.unlink() if after is None else ledger.write_text(after)
    trail(tmp_path).begin(site)
    (warning,) = entries(tmp_path, "warning")
    assert warning.data["remark"] == f"the ledger a1.json {remark}"


def test_a_trail_that_was_deleted_is_evident_by_the_ledger(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (site.ledgers / "a1.json").write_text("spent")
    trail(tmp_path).begin(site)
    assert entries(tmp_path, "warning")[0].data["remark"] == "the ledger a1.json is older than the trail"


def test_a_broken_trail_is_not_gone_on_with(tmp_path: Path) -> None:
    made = trail(tmp_path)
    made.begin(object())
    made.end()
    file = trail_file(tmp_path, "a1")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(NodeError, match="no whole trail of a1"):
        trail(tmp_path)


def test_entries_of_another_key_are_told(tmp_path: Path) -> None:
    trail(tmp_path, None).begin(object())
    trail(tmp_path).begin(object())
    found = list(read_trail(trail_file(tmp_path, "a1").read_text().splitlines()))
    assert [entry.data.get("remark") for entry in found if entry.kind == "warning"] == [
        "earlier entries are not signed by this site's key"
    ]
