"""What has been spent of a data set's privacy: a file that is written before anything is released.

Every piece of noisy work is entered under its key with all the steps that it may take, and the entry is on the disk
before the work begins. What was entered is spent, whether the work came to its end or not: a process that dies and
comes again finds its expenses and cannot spend the same budget twice. Belongs to one data set and one kind of
neighbour; knows no model.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fednet.errors import PrivacyError
from fednet.privacy.accounting import Accountant, Expense, Spent, affordable, spent

Unit = Literal["example", "client"]
"""What neighbouring data sets differ in."""


class Entry(BaseModel):
    """One piece of noisy work.

    Attributes:
        key: what it was; work that is done again is entered again.
        rate: of its sampling.
        noise: in clipping norms.
        steps: that it may have taken.
        private: False where the noise came from a seed: then nothing was protected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    rate: float = Field(gt=0.0, le=1.0)
    noise: float = Field(gt=0.0, allow_inf_nan=False)
    steps: int = Field(ge=1)
    private: bool = True


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Budget:
    """How much may be spent.

    Attributes:
        epsilon: at most; None for any amount.
        delta: at this delta.
        accountant: whose epsilon counts.
    """

    epsilon: float | None
    delta: float
    accountant: Accountant = "rdp"


class Ledger:
    """The expenses of one data set, in one file that several processes may share.

    Args:
        path: of the file; it need not be there.
        unit: what neighbours differ in: an "example", or a whole "client".

    Raises:
        PrivacyError: the file is damaged, or of another unit.
    """

    def __init__(self, path: Path, unit: Unit = "example") -> None:
        self.path, self.unit = path, unit
        self._entries = self._read()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What was entered, in order."""
        return self._entries

    @property
    def private(self) -> bool:
        """Whether all noise so far was secret."""
        return all(entry.private for entry in self._entries)

    def expenses(self) -> list[Expense]:
        """All expenses so far."""
        return [Expense(entry.rate, entry.noise, entry.steps) for entry in self._entries]

    def spent(self, delta: float) -> Spent:
        """The epsilon of all expenses so far."""
        return spent(self.expenses(), delta)

    def left(self, wanted: Expense, budget: Budget) -> int:
        """How many of the wanted steps the budget still buys, 0 to all."""
        if budget.epsilon is None:
            return wanted.steps
        return affordable(self.expenses(), wanted, budget.epsilon, budget.delta, budget.accountant)

    def reserve(self, key: str, wanted: Expense, budget: Budget, *, private: bool = True) -> int:
        """Enters as many of the wanted steps as the budget buys; they are on the disk when this returns.

        Returns:
            How many were entered, at least 1: no further step may be taken under this key.

        Raises:
            PrivacyError: the budget does not buy one step, or the ledger cannot be read.
            OSError: it cannot be written; then nothing may be released.
        """
        with self._locked():
            self._entries = self._read()
            steps = self.left(wanted, budget)
            if steps < 1:
                have = self.spent(budget.delta).by(budget.accountant)
                raise PrivacyError(
                    f"the privacy budget is spent: epsilon {have:.4g} of {budget.epsilon:g} at delta {budget.delta:g} "
                    f"({budget.accountant}), and one more step with noise {wanted.noise:g} at rate {wanted.rate:g} "
                    "would exceed it: no further training is possible on these data"
                )
            entry = Entry(key=key, rate=wanted.rate, noise=wanted.noise, steps=steps, private=private)
            self._write((*self._entries, entry))
            self._entries = (*self._entries, entry)
        return steps

    def _read(self) -> tuple[Entry, ...]:
        if not self.path.is_file():
            return ()
        try:
            found = _File.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            raise PrivacyError(
                f"{self.path} is no privacy ledger ({error.error_count()} faults): without it nobody knows what was "
                "spent; restore it, and train nothing on these data before"
            ) from error
        if found.unit != self.unit:
            raise PrivacyError(
                f"{self.path} counts the privacy of one {found.unit}, this run that of one {self.unit}: give the run a "
                "ledger of its own"
            )
        return found.entries

    def _write(self, entries: tuple[Entry, ...]) -> None:
        text = json.dumps(_File(unit=self.unit, entries=entries).model_dump(), indent=1)
        write_through(self.path, text.encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes from entering something between reading and writing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def write_through(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and returns when it would survive a loss of power.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
