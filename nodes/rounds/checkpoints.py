"""The models that a member trains with its peers: how far each is, what the last round left, and the way back to it.

What a round leaves is written to disk before its member votes for it, and the term before it is promised: the state
as one safetensors file named by its digest, then `rounds.json`, which names the files and replaces its predecessor
whole. A member that starts again goes on from there. Everything here may block and runs on the reducer's thread.
Refuses to know what a model is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.state import digest, pack, unpack
from fednet.files import write_whole
from nodes.rounds.conversion import version_after
from protocol.messages.rounds import (
    MAX_RECORDS,
    AcceptedVote,
    BlobRef,
    ModelVersion,
    ModelVersions,
    RoundCommit,
    RoundPlanMessage,
)

log = logging.getLogger(__name__)

JOURNAL_FILE = "rounds.json"

MAX_STORED_RECORDS = 2048
"""Records that are kept; of what is older, it is only remembered how many rounds of each programme have closed."""


@dataclass(frozen=True)
class Checkpoint:
    """A model as a round has left it.

    Attributes:
        standing: the number of that round, 0 for none, and what the state is called.
        state: with the slots of the server's optimiser.
        packed: the state as bytes, for peers that are behind.
    """

    standing: ModelVersion
    state: ModelState
    packed: bytes | memoryview

    @classmethod
    def of(cls, state: ModelState, number: int = 0, key: str = "", index: int = 0) -> Checkpoint:
        """Packs what round `number` has left, the `index`-th of the programme `key`."""
        packed = pack(state)
        left = BlobRef(digest=digest(state), size=len(packed))
        return cls(ModelVersion(number=number, outcome=left, key=key, index=index), state, packed)


@dataclass(frozen=True)
class PersistedVote:
    """What this member has voted for and knows no commit of.

    Attributes:
        said: how its promises tell of it.
        kept: what it has computed.
    """

    said: AcceptedVote
    kept: Checkpoint


class RoundHistory(BaseModel):
    """What is remembered of rounds whose records are no longer kept.

    Attributes:
        programmes: by key, how many rounds of a programme have closed.
        rounds: by model, the number of the latest of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    programmes: dict[str, int] = {}
    rounds: dict[str, int] = {}

    def with_(self, records: Iterable[RoundCommit]) -> RoundHistory:
        """The same with further records."""
        programmes, rounds = dict(self.programmes), dict(self.rounds)
        for record in records:
            programmes[record.key] = max(programmes.get(record.key, 0), record.index)
            rounds[record.model] = max(rounds.get(record.model, 0), record.number)
        return RoundHistory(programmes=programmes, rounds=rounds)


class _Journal(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    term: int
    standings: ModelVersions
    voted: dict[str, AcceptedVote]
    records: tuple[RoundCommit, ...]
    past: RoundHistory = RoundHistory()


@dataclass(frozen=True)
class _JournalState:
    """What is written beside states and votes."""

    term: int
    past: RoundHistory
    records: Sequence[RoundCommit]


class CheckpointStore:
    """What a member has of every model.

    Args:
        folder: where it is kept; None keeps nothing.

    Attributes:
        term: the highest term that has been promised for good.
        kept: the models by name.
        votes: by model, what this member has voted for beyond that.
        records: of the latest rounds that have closed.
        past: what is remembered of the others.

    Raises:
        ModelError: the folder holds something else than what was written there.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.term = 0
        self.kept: dict[str, Checkpoint] = {}
        self.votes: dict[str, PersistedVote] = {}
        self.records: list[RoundCommit] = []
        self.past = RoundHistory()
        self._texts: dict[int, str] = {}  # of the records, by identity: each is put into words once
        if folder is not None and (folder / JOURNAL_FILE).is_file():
            self._load(folder)

    def standings(self) -> dict[str, ModelVersion]:
        """How far every model is."""
        return {model: kept.standing for model, kept in sorted(self.kept.items())}

    def voted(self) -> dict[str, AcceptedVote]:
        """What was voted for beyond that."""
        return {model: vote.said for model, vote in sorted(self.votes.items())}

    def of(self, key: str) -> list[RoundCommit]:
        """The records of one programme, by their place in it; the last that was told counts."""
        return sorted({record.index: record for record in self.records if record.key == key}.values(), key=_round_index)

    def done(self, key: str) -> int:
        """How many rounds of a programme have closed, as far as is known here."""
        told = [record.index for record in self.records if record.key == key]
        stood = [kept.standing.index for kept in self.kept.values() if kept.standing.key == key]
        return max([self.past.programmes.get(key, 0), *told, *stood])

    def forgotten(self, key: str, after: int) -> bool:
        """Whether records of a programme, after its `after`-th round, are no longer kept."""
        return after < self.past.programmes.get(key, 0)

    def recalled(self, model: str, after: int) -> list[RoundCommit]:
        """The records of a model's rounds after this one, in their order; so many as one recall asks for."""
        records = {record.number: record for record in self.records if record.model == model and record.number > after}
        return [records[number] for number in sorted(records)][:MAX_RECORDS]

    def missing(self, model: str) -> int | None:
        """The number of the first round that this member has the outcome of but no record; None if there is none."""
        number = self.kept[model].standing.number if model in self.kept else 0
        told = {record.number for record in self.records if record.model == model}
        first = self.past.rounds.get(model, 0) + 1
        return next((each for each in range(first, number + 1) if each not in told), None)

    def learn(self, record: RoundCommit) -> bool:
        """Takes in a record that was missing; False if it was not. It is written with the next outcome."""
        kept = self.kept.get(record.model)
        known = any(each.model == record.model and each.number == record.number for each in self.records)
        if kept is None or known or record.number > kept.standing.number:
            return False
        self.records = [*self.records, record]
        return True

    def record_promise(self, term: int) -> None:
        """Keeps in mind, for good, that this term was promised.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        if term > self.term:
            self._become(self.kept, self.votes, self.records, term)

    def vote(self, plan: RoundPlanMessage, record: RoundCommit, kept: Checkpoint) -> None:
        """Keeps in mind, for good, what this member votes for.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        vote = PersistedVote(AcceptedVote(plan=plan, record=record), kept)
        self._become(self.kept, {**self.votes, record.model: vote}, self.records, record.term)

    def adopt(self, model: str, kept: Checkpoint, term: int, record: RoundCommit | None = None) -> None:
        """Takes over what a round has left, for good.

        Args:
            model: which model.
            kept: what the round has left.
            term: the term of its lead.
            record: of the round; None where only its outcome is known.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        records = [*self.records, *([record] if record else [])]
        votes = {
            name: vote
            for name, vote in self.votes.items()
            if name != model or vote.said.record.number > kept.standing.number
        }
        self._become({**self.kept, model: kept}, votes, records, term)

    def _become(
        self, kept: dict[str, Checkpoint], votes: dict[str, PersistedVote], records: list[RoundCommit], term: int
    ) -> None:
        term = max(self.term, term)
        past, records = self.past.with_(records[:-MAX_STORED_RECORDS]), records[-MAX_STORED_RECORDS:]
        if self.folder is not None:
            self._write(self.folder, kept, votes, _JournalState(term, past, records))
        self.past = past
        self.kept, self.votes, self.records, self.term = kept, votes, records, term

    def _write(
        self, folder: Path, kept: Mapping[str, Checkpoint], votes: Mapping[str, PersistedVote], told: _JournalState
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        standings = {model: each.standing for model, each in kept.items()}
        states = [*kept.items(), *((model, vote.kept) for model, vote in votes.items())]
        named = {_checkpoint_path(folder, model, each.standing): each for model, each in states}
        for path, each in named.items():
            if not path.exists():
                write_whole(path, bytes(each.packed))
        said = {model: vote.said for model, vote in votes.items()}
        journal = _Journal(term=told.term, standings=standings, voted=said, records=(), past=told.past)
        texts = {id(each): self._texts.get(id(each)) or json.dumps(each.model_dump()) for each in told.records}
        write_whole(folder / JOURNAL_FILE, _journal_json(journal, texts.values()).encode())
        self._texts = texts  # only now: the identity of a record that was not kept may be that of a later one
        for path in set(folder.glob("*.safetensors")) - named.keys():
            path.unlink()

    def _load(self, folder: Path) -> None:
        try:
            journal = _Journal.model_validate_json((folder / JOURNAL_FILE).read_bytes())
            self.kept = {model: _read_checkpoint(folder, model, each) for model, each in journal.standings.items()}
            for model, said in journal.voted.items():
                self.votes[model] = PersistedVote(said, _read_checkpoint(folder, model, version_after(said.record)))
        except (OSError, ValueError, ValidationError, ModelError) as error:
            raise ModelError(f"{folder} cannot be resumed from ({error}): remove it to begin anew") from error
        self.term, self.records, self.past = journal.term, list(journal.records), journal.past
        log.info("resumed from %s: %s", folder, {model: each.number for model, each in journal.standings.items()})


def _journal_json(journal: _Journal, records: Iterable[str]) -> str:
    """The journal as JSON, in which a loss may be infinite or no number, with records that are JSON already."""
    rest = json.dumps(journal.model_dump(exclude={"records"}))
    return f'{rest[:-1]}, "records": [{", ".join(records)}]}}'


def _read_checkpoint(folder: Path, model: str, standing: ModelVersion) -> Checkpoint:
    path = _checkpoint_path(folder, model, standing)
    packed = path.read_bytes()
    state = unpack(packed)
    if digest(state) != standing.outcome.digest or len(packed) != standing.outcome.size:
        raise ModelError(f"{path} is not what round {standing.number} left")
    return Checkpoint(standing, state, packed)


def _checkpoint_path(folder: Path, model: str, standing: ModelVersion) -> Path:
    return folder / f"{model}-{standing.number:06d}-{standing.outcome.digest[:16]}.safetensors"


def _round_index(record: RoundCommit) -> int:
    return record.index
