"""Keeps a site's trail: hears what it is ordered and asked, and notes what it gives away, before it leaves.

Questions are counted by who asks and what, and noted at the first, the second, the fourth, ... of them and in the end:
a sampler asks once a step. Written through to the disk for each entry but those of questions and refusals. The chain is
`protocol.trail`'s; `fednet audit FILE` reads it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednet.api import ModelState, Participant, Progress, RoundTask, Update
from fednet.federated.state import digest
from fednet.files import LineFile, make_folder
from fednet.methods.contract import LedgerKeeper
from nodes.capability import Handler
from nodes.errors import NodeError
from protocol.codec import Envelope
from protocol.errors import TrailError
from protocol.messages import ExchangeRequest, Message, QueryRequest, RoundsRequest
from protocol.messages.presence import PeerInfo
from protocol.security.keys import Keyring
from protocol.text import plain_text
from protocol.trail import EntryKind, TrailEntry, ledger_remarks, next_entry, read_trail

REVEALED = "revealed.jsonl"
"""In the folder of closed rounds: for whose sums shares were revealed."""
MAX_KINDS = 4096
"""Askers' questions, orders and refusals that are told apart; further ones are counted as one."""


def trail_file(folder: Path, name: str) -> Path:
    """The file of a site's trail, in the run's folder."""
    return folder / "trail" / f"{name}.jsonl"


class Trail:
    """The trail of one site (a `Capability`).

    Args:
        path: of its file.
        name: the site's.
        keys: sign the entries; None: nothing is signed.
        closed_rounds: the folder of what rounds leave.

    Raises:
        NodeError: there is a trail that is broken.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, path: Path, name: str, keys: Keyring | None, closed_rounds: Path) -> None:
        self._path, self._name, self._revealed = path, name, closed_rounds / REVEALED
        self._sign = None if keys is None else keys.own.signer.sign
        self._verifier = None if keys is None else keys.own.signer.public_key()
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        try:
            self._entries = list(read_trail(lines))
        except TrailError as error:
            why = f"{path} is no whole trail of {name}: {error}"
            raise NodeError(f"{why}; keep it elsewhere, and find out why") from error
        self._last: TrailEntry | None = self._entries[-1] if self._entries else None
        self._ledgers: Path | None = None
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        self.handlers: Mapping[type[Message], Handler] = {
            RoundsRequest: self._ordered,
            ExchangeRequest: self._ordered,
            QueryRequest: self._asked,
        }

    def begin(self, site: object) -> None:
        """The site is about to get ready: says what its ledgers are, and what is wrong with them."""
        self._ledgers = site.ledgers if isinstance(site, LedgerKeeper) else None
        noted = [entry.data["ledgers"] for entry in self._entries if "ledgers" in entry.data]
        now = self._hashes()
        older = [f"the ledger {file} is older than the trail" for file in now]
        remarks = ledger_remarks(noted, now) if self._entries else older
        if self._verifier is not None and not all(entry.is_signed_by(self._verifier) for entry in self._entries):
            remarks.append("earlier entries are not signed by this site's key")
        self._entries.clear()
        for remark in remarks:
            self.note("warning", remark=remark)
        self.note("began", ledgers=now)

    def end(self) -> None:
        """The site ends: the counts, and what its ledgers are."""
        counts = [[*key, count] for key, count in sorted(self._counts.items())]
        self.note("ended", ledgers=self._hashes(), counts=counts[:MAX_KINDS])

    def note(self, kind: EntryKind, **data: Any) -> None:
        """Appends an entry; it is on the disk when this returns, unless it counts questions.

        Raises:
            OSError: it cannot be written; then nothing of what it says may leave.
        """
        with self._lock:
            entry = next_entry(self._last, self._name, kind, data, now=time.time(), sign=self._sign)
            make_folder(self._path.parent)
            with LineFile(self._path, durable=kind not in {"question", "refusal"}) as file:
                file.append(entry.line())
            self._last = entry

    def gave(self, task: RoundTask, update: Update) -> None:
        """An update is about to leave."""
        values = {name: float(value) for name, value in update.values.items()}
        finite = {name: value for name, value in values.items() if value - value == 0}
        self.note(
            "contribution", model=task.model, number=task.number, task=task.task, digest=digest(update.state),
            weight=update.weight, values=finite, ledgers=self._hashes(),
        )  # fmt: skip

    def refused(self, requester: str, what: str, reason: str) -> None:
        """Something was refused to a peer."""
        self._count("refusal", requester, what, reason=plain_text(reason)[:200])

    def linked(self, peer: PeerInfo) -> None:
        """Nothing to do."""

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""

    def _ordered(self, envelope: Envelope, order: RoundsRequest | ExchangeRequest) -> None:
        plan = order.plan if isinstance(order, RoundsRequest) else order
        self._count("order", envelope.sender, f"{order.kind} {plan.task} {plan.key}")

    def _asked(self, envelope: Envelope, query: QueryRequest) -> None:
        self._count("question", envelope.sender, query.task)

    def _count(self, kind: EntryKind, peer: str, what: str, **data: str) -> None:
        """Counts something, and notes it where its number is a power of two; an order once."""
        with self._lock:
            key = (
                (kind, peer, what)
                if len(self._counts) < MAX_KINDS or (kind, peer, what) in self._counts
                else (kind, "", "")
            )
            self._counts[key] += 1
            count = self._counts[key]
        if count == 1 or (kind != "order" and count & (count - 1) == 0):
            self.note(kind, peer=key[1], what=key[2], count=count, **data)

    def _hashes(self) -> dict[str, str]:
        """The hash of every ledger by the name of its file."""
        files = [] if self._ledgers is None else sorted(self._ledgers.glob(f"{self._name}.*json"))
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        if self._revealed.is_file():
            name = f"{self._revealed.parent.name}/{REVEALED}"
            hashes[name] = hashlib.sha256(self._revealed.read_bytes()).hexdigest()
        return hashes


class TrailedParticipant:
    """A participant whose contributions, and what it adopts, are noted (a `Participant`).

    Args:
        participant: the site's.
        trail: the site's.
    """

    def __init__(self, participant: Participant, trail: Trail) -> None:
        self._participant, self._trail = participant, trail

    def initial_state(self, model: str) -> ModelState:
        """As the participant's."""
        return self._participant.initial_state(model)

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """As the participant's; the update is noted, on the disk, before it is returned."""
        update = self._participant.contribute(task, base, progress)
        self._trail.gave(task, update)
        return update

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """As the participant's, and noted."""
        self._participant.adopt(model, number, state)
        self._trail.note("adopted", model=model, number=number, digest=digest(state))
