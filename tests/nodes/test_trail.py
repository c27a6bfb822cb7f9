"""What a site was ordered and asked, and what it gave, on the disk before it leaves; and ledgers that were set back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan, NullProgress, Offer, OfferBatch, RoundTask, Update
from nodes.errors import NodeError
from nodes.trail import Trail, TrailedExchanger, TrailedParticipant, trail_file
from protocol.messages import ProgressReport, QueryRequest
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import PROGRESS
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
    noted = [(entry.data["peer"], entry.data["count"]) for entry in entries(tmp_path, "question")[:-1]]
    assert noted == [("guest", 2**k) for k in range(7)] + [("other", 1)]
    assert entries(tmp_path, "refusal")[0].data["reason"] == "no thanks"
    assert entries(tmp_path, "question")[-1].data == {"peer": "guest", "what": "score", "count": 100}


def test_a_flood_of_faults_is_a_few_lines(tmp_path: Path) -> None:
    made = trail(tmp_path)
    made.begin(object())
    for _ in range(10_000):
        made.fault("x", "malformed", "not a message\x1b[2J")
    made.fault("b", "tampered", "it differs")
    made.end()
    noted = entries(tmp_path, "fault")
    assert len(noted) == 16
    assert noted[0].data == {"peer": "x", "what": "malformed", "count": 1, "reason": "not a message\ufffd[2J"}
    assert noted[-1].data == {"peer": "x", "what": "malformed", "count": 10_000}
    assert [entry.data["peer"] for entry in noted].count("b") == 1


def test_whatever_peers_have_invented_the_next_life_goes_on(tmp_path: Path) -> None:
    made = trail(tmp_path)
    made.begin(object())
    for number in range(2000):
        for _ in range(3):
            asked(made, "guest", f"{number:04}" + "\U0001f600" * 60)
    made.end()
    trail(tmp_path).begin(object())
    assert entries(tmp_path)[-1].kind == "began"


def test_what_is_counted_and_cannot_be_written_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = trail(tmp_path)
    made.begin(object())

    def full(*_of: object, **_how: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("nodes.trail.LineFile", full)
        for _ in range(100):
            made.fault("x", "malformed", "not a message")
        assert len(caplog.records) == 7
        with pytest.raises(OSError, match="No space"):
            made.note("contribution")
    made.end()
    assert entries(tmp_path, "fault")[-1].data["count"] == 100


class Offerer:
    """An exchanger with an offer of an earlier life."""

    def initial_offers(self) -> tuple[Offer, ...]:
        return (Offer("a1", "s", 1, torch.ones(2, 3)),)

    def offer(self, plan: ExchangePlan, progress: Any) -> OfferBatch:
        return OfferBatch(tuple(Offer("a1", subject, 2, torch.ones(2, 3)) for subject in "st"), {})

    def absorb(self, offer: Offer) -> None:
        pass


def test_offers_are_noted_before_they_leave(tmp_path: Path) -> None:
    made = trail(tmp_path)
    site = TrailedExchanger(Offerer(), made)
    made.begin(site)
    site.initial_offers()
    site.offer(ExchangePlan("k", "learn"), NullProgress())
    first, second = entries(tmp_path, "offer")
    assert (first.data["key"], first.data["offers"]) == ("", 1)
    assert (second.data["key"], second.data["offers"]) == ("k", 2)
    assert first.data["digest"] != second.data["digest"]


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


def test_a_peer_that_breaks_the_protocol_is_in_the_trail_of_the_site(tmp_path: Path, tell: Callable[..., Any]) -> None:
    async def story(cluster: Any) -> None:
        made = trail(tmp_path, None)
        made.begin(object())
        node, _ = await cluster.start("a1")
        node.on_refusal, node.on_fault = made.refused, made.fault
        forger = await cluster.forger("x").link(node)
        frames = forger.say(PROGRESS, ProgressReport(phase="p", done=0, total=0, values={}), number=1)
        for _ in range(200):
            forger.bus.publish([*frames, b"a frame that is no tensor's"])
        await asyncio.sleep(1)

    tell(story)
    noted = list(read_trail(trail_file(tmp_path, "a1").read_text().splitlines()))
    counts = {entry.data["what"]: entry.data["count"] for entry in noted if entry.kind == "fault"}
    assert counts == {"malformed": 8, "quarantine": 1}
