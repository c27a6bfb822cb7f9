"""The journal of a member's checkpoints, `rounds.jsonl`: an entry, a line of JSON, for each term, vote and outcome.

An entry says all that holds from then on, but of the records of rounds only those that are new, so that it costs the
same however many are kept. Once the appended ones are more bytes than the first, and than `MIN_ROOM`, all are replaced
by one with whatever is kept; so are those of an earlier incarnation. An entry is on the disk, and its file's name, when
it is written; what a loss of power has left of a last one was never told anybody, and counts for nothing. Knows nothing
of states.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fednet.files import LineFile, write_whole
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import ModelVersions
from protocol.messages.rounds import RoundCommit

JOURNAL = "rounds.jsonl"

MIN_ROOM = 1 << 20
"""Bytes of entries that are appended, at least, before they are replaced."""


class RoundHistory(BaseModel):
    """What is remembered of rounds whose records are no longer kept.

    Attributes:
        plans: by key, how many rounds of a plan have closed.
        rounds: by model, the number of the latest of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plans: dict[str, int] = {}
    rounds: dict[str, int] = {}

    def including(self, records: Iterable[RoundCommit]) -> RoundHistory:
        """The same with further records."""
        plans, rounds = dict(self.plans), dict(self.rounds)
        for record in records:
            plans[record.key] = max(plans.get(record.key, 0), record.index)
            rounds[record.model] = max(rounds.get(record.model, 0), record.number)
        return RoundHistory(plans=plans, rounds=rounds)


class JournalEntry(BaseModel):
    """What holds from an entry on.

    Attributes:
        term: the highest term that was promised.
        versions: of every model.
        accepted: by model, a vote beyond that.
        records: of rounds, those that earlier entries do not have, or have with fewer votes.
        history: of rounds whose records are no longer kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    term: int
    versions: ModelVersions
    accepted: dict[str, AcceptedVote]
    records: tuple[RoundCommit, ...]
    history: RoundHistory


def by_round(records: Iterable[RoundCommit]) -> dict[tuple[str, int], RoundCommit]:
    """Records by the model and number of their rounds; of two for one round the later one counts."""
    return {(record.model, record.number): record for record in records}


class RoundJournal:
    """The journal in a folder.

    Args:
        folder: where it is, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._room = 0  # bytes that may be appended; none to what this incarnation has not written

    def read(self) -> JournalEntry | None:
        """What holds after its last entry, with the records of all of them; None if there is no journal.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else than what was written there.
        """
        if not self._path.is_file():
            return None
        lines = self._path.read_bytes().split(b"\n")
        entries = [JournalEntry.model_validate_json(line) for line in lines[:-1] or lines]
        records = by_round(record for entry in entries for record in entry.records)
        return entries[-1].model_copy(update={"records": tuple(records.values())})

    def write(self, entry: JournalEntry, kept: Iterable[RoundCommit]) -> None:
        """Writes an entry; it is on the disk when this returns.

        Args:
            entry: what holds from now on.
            kept: the records of earlier entries that are kept.

        Raises:
            OSError: it cannot be written; what held before holds.
        """
        line = entry.model_dump_json()
        room, self._room = self._room - len(line), 0
        if room >= 0:
            with LineFile(self._path, durable=True) as file:
                file.append(line)
        else:
            records = by_round([*kept, *entry.records])
            whole = entry.model_copy(update={"records": tuple(records.values())}).model_dump_json()
            write_whole(self._path, f"{whole}\n".encode(), durable=True)
            room = max(MIN_ROOM, len(whole))
        self._room = room
