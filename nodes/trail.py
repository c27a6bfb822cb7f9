"""Keeps a site's trail: what it is ordered and asked, what it refuses and is done to it, and what it gives away.

What leaves is on the disk before it does. What peers can cause as often as they like (orders, questions, refusals,
faults) is counted by who and what, and noted at the first, the second, the fourth, ... time and in the end: a sampler
asks once a step, and a flood must not fill the disk. The chain is `protocol.trail`'s; `fednet audit FILE` reads it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fednet.api import (
    ExchangePlan,
    Exchanger,
    ModelState,
    Offer,
    OfferBatch,
    Participant,
    Progress,
    RoundTask,
    Update,
)
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
from protocol.trail import (
    COUNTED,
    TRAIL_FOLDER,
    EntryKind,
    OccurrenceCounter,
    TrailEntry,
    ledger_remarks,
    next_entry,
    read_trail,
)

log = logging.getLogger(__name__)

REVEALED = "revealed.jsonl"
"""In the folder of closed rounds: for whose sums shares were revealed."""


def trail_file(folder: Path, name: str) -> Path:
    """The file of a site's trail, in the run's folder."""
    return folder / TRAIL_FOLDER / f"{name}.jsonl"


def ledger_hashes(name: str, ledgers: Path | None, revealed: Iterable[Path]) -> dict[str, str]:
    """The hash of each of a site's ledgers by the name of its file.

    Args:
        name: the site's.
        ledgers: the folder of what it counts; None: it counts nothing.
        revealed: files of the sums that it has revealed shares of, each in the folder of its closed rounds.
    """
    files = {file.name: file for file in (ledgers.glob(f"{name}.*json") if ledgers is not None else ())}
    files |= {f"{file.parent.name}/{file.name}": file for file in revealed if file.is_file()}
    return {each: hashlib.sha256(file.read_bytes()).hexdigest() for each, file in sorted(files.items())}


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
        self._occurrences = OccurrenceCounter()
        self._lock = threading.RLock()
        self.handlers: Mapping[type[Message], Handler] = {
            RoundsRequest: self._ordered,
            ExchangeRequest: self._ordered,
            QueryRequest: self._asked,
        }

    def begin(self, site: object) -> None:
        """The site is about to get ready: says what its ledgers are, and what is wrong with them."""
        self._ledgers = site.ledgers if isinstance(site, LedgerKeeper) else None
        noted, now = [entry.ledgers for entry in self._entries], self._hashes()
        older = [f"the ledger {file} is older than the trail" for file in now]
        remarks = ledger_remarks(noted, now) if self._entries else older
        if self._verifier is not None and not all(entry.is_signed_by(self._verifier) for entry in self._entries):
            remarks.append("earlier entries are not signed by this site's key")
        self._entries.clear()
        for remark in remarks:
            self.note("warning", remark=remark)
        self.note("began", ledgers=now)

    def end(self) -> None:
        """The site ends: the last counts, and what its ledgers are."""
        for (kind, peer, what), count in self._occurrences.unnoted():
            self.note(kind, peer=peer, what=what, count=count)
        self.note("ended", ledgers=self._hashes())

    def note(self, kind: EntryKind, **data: Any) -> None:
        """Appends an entry; it is on the disk when this returns, unless it is one of those that are counted.

        Raises:
            OSError: it cannot be written; then nothing of what it says may leave.
        """
        with self._lock:
            entry = next_entry(self._last, self._name, kind, data, now=time.time(), sign=self._sign)
            make_folder(self._path.parent)
            with LineFile(self._path, durable=kind not in COUNTED) as file:
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

    def offered(self, key: str, offers: tuple[Offer, ...]) -> None:
        """Offers are about to leave, under a request of this key."""
        embeddings = {f"{each.subject} {each.version}": each.embeddings.detach() for each in offers}
        self.note("offer", key=key, offers=len(offers), digest=digest(embeddings), ledgers=self._hashes())

    def refused(self, peer: str, what: str, reason: str) -> None:
        """Something was refused to a peer."""
        self._count("refusal", peer, what, reason=plain_text(reason)[:200])

    def fault(self, peer: str, kind: str, why: str) -> None:
        """A peer has done something wrong."""
        self._count("fault", peer, kind, reason=plain_text(why)[:200])

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
        """Counts what a peer has caused, and notes it now and then; it is no reason to fail."""
        with self._lock:
            noted = self._occurrences.add(kind, peer, what)
            try:
                if noted is not None:
                    (_, peer, what), count = noted
                    self.note(kind, peer=peer, what=what, count=count, **data)
            except OSError as error:
                log.warning("the trail has no %s of %s, %d so far: %s", kind, peer, count, error)

    def _hashes(self) -> dict[str, str]:
        return ledger_hashes(self._name, self._ledgers, [self._revealed])


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


class TrailedExchanger:
    """An exchanger whose offers are noted (an `Exchanger`).

    Args:
        exchanger: the site's.
        trail: the site's.
    """

    def __init__(self, exchanger: Exchanger, trail: Trail) -> None:
        self._exchanger, self._trail = exchanger, trail

    def initial_offers(self) -> tuple[Offer, ...]:
        """As the exchanger's; noted, on the disk, before they are returned."""
        offers = tuple(self._exchanger.initial_offers())
        if offers:
            self._trail.offered("", offers)
        return offers

    def offer(self, plan: ExchangePlan, progress: Progress) -> OfferBatch:
        """As the exchanger's; noted, on the disk, before it is returned."""
        batch = self._exchanger.offer(plan, progress)
        self._trail.offered(plan.key, batch.offers)
        return batch

    def absorb(self, offer: Offer) -> None:
        """As the exchanger's."""
        self._exchanger.absorb(offer)
