"""The models that a member trains with its peers: how far each is, what the last round left, and the way back to it.

What a round has left is written to disk before anybody builds on it: the state as one safetensors file named by its
digest, then `rounds.json`, which names the files and replaces its predecessor whole. A member that starts again goes
on from there. Everything here may block and runs on the reducer's thread. Refuses to know what a model is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fednet.conversations import State
from fednet.errors import ModelError
from fednet.federated.state import digest, pack, unpack
from fednet.files import write_whole
from protocol.messages.rounds import Commit, Piece, Standing

log = logging.getLogger(__name__)

JOURNAL = "rounds.json"


@dataclass(frozen=True)
class Kept:
    """A model as a round has left it.

    Attributes:
        standing: the number of that round, 0 for none, and what the state is called.
        state: with the slots of the server's optimiser.
        packed: the state as bytes, for peers that are behind.
    """

    standing: Standing
    state: State
    packed: bytes | memoryview

    @classmethod
    def of(cls, state: State, number: int = 0, key: str = "", index: int = 0) -> Kept:
        """Packs what round `number` has left, the `index`-th of the programme `key`."""
        packed = pack(state)
        left = Piece(digest=digest(state), size=len(packed))
        return cls(Standing(number=number, left=left, key=key, index=index), state, packed)


class _Journal(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    term: int
    standings: dict[str, Standing]
    records: tuple[Commit, ...]


class Models:
    """What a member has of every model.

    Args:
        folder: where it is kept; None keeps nothing.

    Attributes:
        term: the highest term that was promised when the last round closed.
        kept: the models by name.
        records: of all rounds that have closed, in their order.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.term = 0
        self.kept: dict[str, Kept] = {}
        self.records: list[Commit] = []
        if folder is not None and (folder / JOURNAL).is_file():
            self._load(folder)

    def standings(self) -> dict[str, Standing]:
        """How far every model is."""
        return {model: kept.standing for model, kept in sorted(self.kept.items())}

    def of(self, key: str) -> list[Commit]:
        """The records of one programme, by their place in it; the last that was told counts."""
        return sorted({record.index: record for record in self.records if record.key == key}.values(), key=_place)

    def done(self, key: str) -> int:
        """How many rounds of a programme have closed, as far as is known here."""
        told = [record.index for record in self.records if record.key == key]
        stood = [kept.standing.index for kept in self.kept.values() if kept.standing.key == key]
        return max([0, *told, *stood])

    def adopt(self, model: str, kept: Kept, term: int, record: Commit | None = None) -> None:
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
        if self.folder is not None:
            self._write(self.folder, {**self.kept, model: kept}, records, term)
        self.kept[model], self.records, self.term = kept, records, term

    def _write(self, folder: Path, kept: Mapping[str, Kept], records: list[Commit], term: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        standings = {model: each.standing for model, each in kept.items()}
        for model, each in kept.items():
            if not (path := _file(folder, model, each.standing)).exists():
                write_whole(path, bytes(each.packed))
        journal = _Journal(term=term, standings=standings, records=tuple(records))
        write_whole(folder / JOURNAL, journal.model_dump_json().encode())
        named = {_file(folder, model, standing) for model, standing in standings.items()}
        for path in set(folder.glob("*.safetensors")) - named:
            path.unlink()

    def _load(self, folder: Path) -> None:
        try:
            journal = _Journal.model_validate_json((folder / JOURNAL).read_bytes())
            self.kept = {model: _read(folder, model, each) for model, each in journal.standings.items()}
        except (OSError, ValueError, ValidationError, ModelError) as error:
            raise ModelError(f"{folder} cannot be resumed from ({error}): remove it to begin anew") from error
        self.term, self.records = journal.term, list(journal.records)
        log.info("resumed from %s: %s", folder, {model: each.number for model, each in journal.standings.items()})


def _read(folder: Path, model: str, standing: Standing) -> Kept:
    path = _file(folder, model, standing)
    packed = path.read_bytes()
    state = unpack(packed)
    if digest(state) != standing.left.digest:
        raise ModelError(f"{path} is not what round {standing.number} left")
    return Kept(standing, state, packed)


def _file(folder: Path, model: str, standing: Standing) -> Path:
    return folder / f"{model}-{standing.number:06d}-{standing.left.digest[:16]}.safetensors"


def _place(record: Commit) -> int:
    return record.index
