"""A member's checkpoints: the version and state of every model, its votes, and the records of the latest rounds.

An outcome is on disk before its member votes for it, and a term before it is promised: the state as a safetensors file
named by its digest, then an entry of the journal (`nodes.rounds.journal`) that names the files. All of it survives a
loss of power, and a later incarnation continues from there. Everything here may block and runs on the reducer's thread.
Knows nothing of what a model is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.packed_state import PackedState
from fednet.federated.state_storage import StateStorage, WritableStorage, allocated
from nodes.blob_store import Blob
from nodes.rounds.journal import JournalEntry, RoundHistory, RoundJournal, by_round
from protocol.certificates import vote_for
from protocol.messages.election import MAX_RECORDS, AcceptedVote
from protocol.messages.round_values import BlobRef, ModelVersion, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundVote
from protocol.rounds import version_after

log = logging.getLogger(__name__)

MAX_RECORDS_KEPT = 2048
"""Records that are kept; of older ones, only how many rounds of each plan and model they were."""


@dataclass(frozen=True)
class Checkpoint:
    """A model as a round has left it.

    Attributes:
        version: the number of that round, 0 for none, and the digest and size of its outcome.
        packed: the state, with the slots of the server's optimiser.
    """

    version: ModelVersion
    packed: PackedState

    @classmethod
    def of(cls, packed: PackedState, number: int = 0, key: str = "", index: int = 0) -> Checkpoint:
        """The outcome of round `number`, the `index`-th of the plan `key`."""
        outcome = BlobRef(digest=packed.tree.root, size=packed.tree.size)
        return cls(ModelVersion(number=number, outcome=outcome, key=key, index=index), packed)

    @property
    def state(self) -> ModelState:
        """The state."""
        return self.packed.state

    @property
    def blob(self) -> Blob:
        """The state as peers fetch it."""
        return Blob(self.packed.tree, self.packed.bytes_at)


@dataclass(frozen=True)
class PersistedVote:
    """A vote of this member of which it knows no commit.

    Attributes:
        accepted: the vote as promises tell it.
        checkpoint: the outcome that it was for.
    """

    accepted: AcceptedVote
    checkpoint: Checkpoint


class CheckpointStore:
    """What a member has of every model.

    Args:
        folder: where it is kept; None keeps nothing on disk.

    Attributes:
        term: the highest term that was promised.
        checkpoints: by model.
        votes: by model, a vote beyond its checkpoint.
        history: of rounds whose records are no longer kept.

    Raises:
        ModelError: the folder holds something else than what was written there.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.term = 0
        self.checkpoints: dict[str, Checkpoint] = {}
        self.votes: dict[str, PersistedVote] = {}
        self.history = RoundHistory()
        self._records: dict[tuple[str, int], RoundCommit] = {}  # by model and number of the round
        self._unwritten: dict[tuple[str, int], RoundCommit] = {}  # what the journal does not have yet
        self._journal = RoundJournal(folder) if folder is not None else None
        if folder is not None and self._journal is not None:
            self._load(folder, self._journal)

    @property
    def records(self) -> list[RoundCommit]:
        """The records of the latest rounds that have closed; of two for one round the later one."""
        return list(self._records.values())

    def allocate(self, size: int) -> WritableStorage:
        """Room for a state of so many bytes, where the checkpoints lie.

        Raises:
            OSError: there is none.
        """
        return allocated(size, self.folder)

    def versions(self) -> dict[str, ModelVersion]:
        """The version of every model."""
        return {model: checkpoint.version for model, checkpoint in sorted(self.checkpoints.items())}

    def latest(self) -> dict[str, RoundCommit]:
        """By model, the record of its latest round; a model that no round has changed has none."""
        keys = [(model, checkpoint.version.number) for model, checkpoint in sorted(self.checkpoints.items())]
        return {key[0]: self._records[key] for key in keys if key in self._records}

    def accepted(self) -> dict[str, AcceptedVote]:
        """The votes beyond that."""
        return {model: vote.accepted for model, vote in sorted(self.votes.items())}

    def records_of(self, key: str) -> list[RoundCommit]:
        """The records of one plan in their order; of two for one round the later one counts."""
        records = {record.index: record for record in self.records if record.key == key}
        return [records[index] for index in sorted(records)]

    def rounds_done(self, key: str) -> int:
        """How many rounds of a plan have closed, as far as is known here."""
        recorded = [record.index for record in self.records if record.key == key]
        reached = [each.version.index for each in self.checkpoints.values() if each.version.key == key]
        return max([self.history.plans.get(key, 0), *recorded, *reached])

    def forgotten(self, key: str, after: int) -> bool:
        """Whether records of a plan, after its `after`-th round, are no longer kept."""
        return after < self.history.plans.get(key, 0)

    def records_after(self, model: str, number: int) -> list[RoundCommit]:
        """The records of a model's rounds after this one in their order, as many as one request is answered with."""
        records = {each.number: each for each in self.records if each.model == model and each.number > number}
        return [records[number] for number in sorted(records)][:MAX_RECORDS]

    def first_missing(self, model: str) -> int | None:
        """The number of the first round of which this member has the outcome but no record; None if there is none."""
        number = self.checkpoints[model].version.number if model in self.checkpoints else 0
        recorded = {record.number for record in self.records if record.model == model}
        first = self.history.rounds.get(model, 0) + 1
        return next((each for each in range(first, number + 1) if each not in recorded), None)

    def learn(self, record: RoundCommit) -> bool:
        """Takes in a record that was missing; False if it was not. It is written with the next outcome."""
        checkpoint = self.checkpoints.get(record.model)
        known = (record.model, record.number) in self._records
        if checkpoint is None or known or record.number > checkpoint.version.number:
            return False
        self._note(record)
        return True

    def promise(self, term: int) -> None:
        """Keeps a promised term on disk.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        if term > self.term:
            self._write(self.checkpoints, self.votes, term)

    def vote(self, plan: RoundPlanMessage, record: RoundCommit, checkpoint: Checkpoint) -> None:
        """Keeps a vote on disk, with the outcome that it is for.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        vote = PersistedVote(AcceptedVote(plan=plan, record=record), checkpoint)
        self._write(self.checkpoints, {**self.votes, record.model: vote}, record.term)

    def add_vote(self, name: str, vote: RoundVote) -> None:
        """Takes in another's vote for a record that this member has voted for or holds; it is not written to the disk.

        Votes beyond a majority are kept, too: a record stays certified where some of its voters are trusted no more.
        """
        unsigned, votes = vote.model_copy(update={"signature": b""}), {name: vote.signature}
        own = self.votes.get(vote.model)
        if own is not None and vote_for(own.accepted.record) == unsigned:
            accepted = own.accepted.model_copy(update={"record": _with_votes(own.accepted.record, votes)})
            self.votes = {**self.votes, vote.model: PersistedVote(accepted, own.checkpoint)}
        record = self._records.get((vote.model, vote.number))
        if record is not None and name not in record.votes and vote_for(record) == unsigned:
            self._note(_with_votes(record, votes))

    def adopt(self, model: str, checkpoint: Checkpoint, term: int, record: RoundCommit | None = None) -> None:
        """Adopts the outcome of a round.

        Args:
            model: which model.
            checkpoint: the outcome.
            term: of the round's leader.
            record: of the round; None for the initial state.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        own = self.votes.get(model)
        if record is not None and own is not None and vote_for(own.accepted.record) == vote_for(record):
            record = _with_votes(record, own.accepted.record.votes)
        votes = {
            name: vote
            for name, vote in self.votes.items()
            if name != model or vote.accepted.record.number > checkpoint.version.number
        }
        self._write({**self.checkpoints, model: checkpoint}, votes, term, *([record] if record else []))

    def _note(self, record: RoundCommit) -> None:
        """Takes in a record, which is written with the next entry."""
        key = record.model, record.number
        self._records[key] = self._unwritten[key] = record

    def _write(
        self, checkpoints: dict[str, Checkpoint], votes: dict[str, PersistedVote], term: int, *added: RoundCommit
    ) -> None:
        """Writes what is new, then takes it over; what arrives meanwhile is written with the next entry."""
        entry = JournalEntry(
            term=max(self.term, term),
            versions={model: each.version for model, each in checkpoints.items()},
            accepted={model: vote.accepted for model, vote in votes.items()},
            records=(*self._unwritten.values(), *added),
            history=self.history,
        )
        if self.folder is not None and self._journal is not None:
            states = [*checkpoints.items(), *((model, vote.checkpoint) for model, vote in votes.items())]
            files = {_file(self.folder, model, each.version): each for model, each in states}
            for path, checkpoint in files.items():
                if not path.exists():
                    checkpoint.packed.storage.keep(path)
            self._journal.write(entry, self.records)
            for path in set(self.folder.glob("*.safetensors")) - files.keys():
                path.unlink()
        self.checkpoints, self.votes, self.term = checkpoints, votes, entry.term
        self._records.update(by_round(added))
        for key, record in by_round(entry.records).items():
            if self._unwritten.get(key) is record:
                del self._unwritten[key]
        self._forget()

    def _forget(self) -> None:
        """Forgets the oldest records beyond those that are kept, but none of a model's latest round."""
        latest = {(model, checkpoint.version.number) for model, checkpoint in self.checkpoints.items()}
        old = [key for key in list(self._records)[:-MAX_RECORDS_KEPT] if key not in latest]
        if old:
            self.history = self.history.including([self._records.pop(key) for key in old])

    def _load(self, folder: Path, journal: RoundJournal) -> None:
        try:
            if (entry := journal.read()) is None:
                return
            self.checkpoints = {model: _read(folder, model, each) for model, each in entry.versions.items()}
            for model, accepted in entry.accepted.items():
                self.votes[model] = PersistedVote(accepted, _read(folder, model, version_after(accepted.record)))
        except (OSError, ValueError, ModelError) as error:
            raise ModelError(f"{folder} cannot be resumed from ({error}): remove it to begin anew") from error
        self.term, self._records, self.history = entry.term, by_round(entry.records), entry.history
        self._forget()
        log.info("resumed from %s: %s", folder, {model: each.number for model, each in entry.versions.items()})


def _with_votes(record: RoundCommit, votes: Mapping[str, bytes]) -> RoundCommit:
    """A record with further votes."""
    return record.model_copy(update={"votes": {**votes, **record.votes}})


def _read(folder: Path, model: str, version: ModelVersion) -> Checkpoint:
    path = _file(folder, model, version)
    packed = PackedState.read(StateStorage.opened(path))
    if packed.tree.root != version.outcome.digest or packed.tree.size != version.outcome.size:
        raise ModelError(f"{path} is not the outcome of round {version.number}")
    return Checkpoint(version, packed)


def _file(folder: Path, model: str, version: ModelVersion) -> Path:
    return folder / f"{model}-{version.number:06d}-{version.outcome.digest[:16]}.safetensors"
