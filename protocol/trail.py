"""A site's trail: a chain of signed entries of what it was ordered and asked, and what it gave away. Pure.

Every entry names the hash of the one before, so that none can be changed, left out or put in between without breaking
the chain; with keys each is signed. Of the files that count what was spent (ledgers) it holds the hashes, so that a
ledger that was deleted or set back is no longer what its trail says. What a chain cannot show is that its end was cut
off; then the ledgers are ahead of it. Who can write the site's disk and has its private key can make another chain:
compare the last hash with one that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from protocol.errors import TrailError
from protocol.topics import NAME

EntryKind = Literal[
    "began", "ended", "order", "question", "refusal", "fault", "contribution", "offer", "adopted", "warning"
]
"""What an entry can be of."""

COUNTED: frozenset[EntryKind] = frozenset({"order", "question", "refusal", "fault"})
"""What peers can cause as often as they like: noted by `OccurrenceCounter`, and not each time."""

TRAIL_FOLDER = "trail"
"""In a run's folder: the trails of its sites, `<site>.jsonl`."""
LEDGERS = "ledgers"
"""Under this, the data of an entry hold the hashes of the site's ledgers."""
START = "0" * 64
"""In place of the hash of an entry before the first."""
MAX_LINE_BYTES = 256 * 1024
"""Of an entry; the largest has 256 values of a contribution, by labels of 64 characters that JSON escapes."""
MAX_PEERS = 256
"""Peers whose occurrences are told apart; those of further ones are counted as one."""
MAX_TOLD_APART = 256
"""Occurrences of one kind and peer that are told apart; further ones are counted as one."""
MAX_COUNTS = 16384
"""Occurrences of all peers that are told apart by more than their kind and peer."""

_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

LedgerHashes = Mapping[str, str]
"""The hash of each ledger by the name of its file."""

_hashes = TypeAdapter(dict[str, _Hash])


class TrailEntry(BaseModel):
    """One entry.

    Attributes:
        number: from 1.
        time: seconds since the epoch, by the site's clock.
        node: whose trail it is.
        kind: what happened.
        data: its details, JSON.
        before: the hash of the entry before, `START` for the first.
        signature: Ed25519 over all of this, 128 hexadecimal digits; empty where there are no keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    number: int = Field(ge=1)
    time: float
    node: str = Field(pattern=f"^{NAME}$")
    kind: EntryKind
    data: dict[str, Any]
    before: _Hash
    signature: str = Field(default="", pattern="^([0-9a-f]{128})?$")

    @field_validator("data")
    @classmethod
    def _ledgers_are_hashes(cls, data: dict[str, Any]) -> dict[str, Any]:
        _hashes.validate_python(data.get(LEDGERS, {}), strict=True)
        return data

    @property
    def ledgers(self) -> LedgerHashes:
        """The hashes of the site's ledgers, where the entry has them; empty where it does not."""
        hashes: LedgerHashes = self.data.get(LEDGERS, {})
        return hashes

    def line(self) -> str:
        """The entry as a line of a file, without its end."""
        return json.dumps(self.model_dump(), sort_keys=True, allow_nan=False)

    @property
    def hash(self) -> str:
        """SHA-256 of the line, which the next entry names."""
        return hashlib.sha256(self.line().encode()).hexdigest()

    @property
    def statement(self) -> bytes:
        """What is signed."""
        return b"fednet trail 1 " + self.model_copy(update={"signature": ""}).line().encode()

    def is_signed_by(self, verifier: Ed25519PublicKey) -> bool:
        """Whether the owner of a key has signed it."""
        try:
            verifier.verify(bytes.fromhex(self.signature), self.statement)
        except InvalidSignature:
            return False
        return True


def next_entry(
    last: TrailEntry | None,
    node: str,
    kind: EntryKind,
    data: Mapping[str, Any],
    *,
    now: float,
    sign: Callable[[bytes], bytes] | None,
) -> TrailEntry:
    """The entry that follows another one, signed where there are keys."""
    number, before = (1, START) if last is None else (last.number + 1, last.hash)
    entry = TrailEntry(number=number, time=now, node=node, kind=kind, data=dict(data), before=before)
    return entry if sign is None else entry.model_copy(update={"signature": sign(entry.statement).hex()})


def read_trail(lines: Iterable[str], verifier: Ed25519PublicKey | None = None) -> Iterator[TrailEntry]:
    """The entries of a trail, each checked against the one before.

    Args:
        lines: of the file.
        verifier: the site's key, by which every entry must be signed; None: signatures are not looked at.

    Raises:
        TrailError: a line is no entry, the chain is broken, or a signature is missing or wrong; says at which line.
    """
    last: TrailEntry | None = None
    for number, line in enumerate(lines, 1):
        entry = _entry(line, number)
        if entry.number != number or entry.before != (START if last is None else last.hash):
            raise TrailError("it does not follow the one before: entries were changed, left out or put in", line=number)
        if last is not None and entry.node != last.node:
            raise TrailError(f"it is of {entry.node}, the one before of {last.node}", line=number)
        if verifier is not None and not entry.is_signed_by(verifier):
            raise TrailError(f"it is not signed by the key of {entry.node}", line=number)
        last = entry
        yield entry


def _entry(line: str, number: int) -> TrailEntry:
    try:
        if len(line.encode()) > MAX_LINE_BYTES:
            raise ValueError(f"more than {MAX_LINE_BYTES} bytes")
        return TrailEntry.model_validate_json(line)
    except (ValidationError, ValueError) as error:
        raise TrailError("it is no entry of a trail", line=number) from error


class Occurrence(NamedTuple):
    """What has happened: `peer` and `what` are empty where it is counted among others."""

    kind: EntryKind
    peer: str
    what: str

    @property
    def once(self) -> bool:
        """Whether only the first one is noted: an order is repeated until it is done."""
        return self.kind == "order" and self.what != ""


class OccurrenceCounter:
    """How often what peers can cause has happened, in bounded memory and with few entries, whoever causes it.

    An occurrence is noted the first time, the second, the fourth, the eighth and so on. No peer's flood hides what
    another one does.
    """

    def __init__(self) -> None:
        self._counts: Counter[Occurrence] = Counter()
        self._of_peers: dict[str, Counter[str]] = {}

    def add(self, kind: EntryKind, peer: str, what: str) -> tuple[Occurrence, int] | None:
        """Counts an occurrence; as what and how often, if it is to be noted this time."""
        occurrence = self._told_apart(Occurrence(kind, peer, what))
        self._counts[occurrence] += 1
        count = self._counts[occurrence]
        noted = count == 1 if occurrence.once else _is_power_of_two(count)
        return (occurrence, count) if noted else None

    def unnoted(self) -> list[tuple[Occurrence, int]]:
        """How often everything has happened whose last time was not noted, sorted."""
        counts = sorted(self._counts.items())
        return [(each, count) for each, count in counts if not (each.once or _is_power_of_two(count))]

    def _told_apart(self, occurrence: Occurrence) -> Occurrence:
        kind, peer, _ = occurrence
        if occurrence in self._counts:
            return occurrence
        if peer not in self._of_peers and len(self._of_peers) >= MAX_PEERS:
            return Occurrence(kind, "", "")
        told = self._of_peers.setdefault(peer, Counter())
        if told[kind] >= MAX_TOLD_APART or len(self._counts) >= MAX_COUNTS:
            return Occurrence(kind, peer, "")
        told[kind] += 1
        return occurrence


def _is_power_of_two(count: int) -> bool:
    return count & (count - 1) == 0


def ledger_remarks(noted: Iterable[LedgerHashes], now: LedgerHashes) -> list[str]:
    """What is wrong with ledgers, in sentences, by all that a trail has noted of them; nothing where all is well.

    Args:
        noted: the ledgers' hashes as the trail has them, in order.
        now: as they are.
    """
    history: dict[str, list[str]] = {}
    for hashes in noted:
        for name, value in hashes.items():
            history.setdefault(name, []).append(value)
    remarks = []
    for name, values in sorted(history.items()):
        present = now.get(name, "")
        if present == values[-1]:
            continue
        if not present:
            remarks.append(f"the ledger {name} was deleted")
        elif present in values:
            remarks.append(f"the ledger {name} was set back")
        else:
            remarks.append(f"the ledger {name} was written after the last note of the trail, or replaced")
    return remarks
