"""What has been spent of a data set's privacy: a file that is written before anything is released.

Every piece of noisy work is entered under its key with all the steps that it may take, and the entry is on the disk
before the work begins. From then on it counts as spent: a process that dies and comes again finds its expenses and
cannot spend the same budget twice. Belongs to one data set and one kind of neighbour; knows no model.

Until anything of the work leaves, its entry is *reserved*, and work that begins again under the same key and the same
terms uses it instead of another one. That is sound, because privacy is spent by what others see: of an attempt that was
not released they see nothing, its noise is drawn anew by the next one, and so all that is ever seen under an entry is
one outcome of the mechanism that it pays for. Whoever tells anything else of an attempt (a loss, that it has failed)
has released it and says so. An entry is *released*, on the disk, before what it pays for is handed out, and is never
used again. Every attempt has a mark of its own: should another process take its reservation over, as two runs of one
configuration with one ledger may do, it pays anew before it releases anything.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fednet.errors import PrivacyError
from fednet.files import locked, write_whole
from fednet.privacy.accounting import Accountant, Expense, Spent, affordable, spent

Unit = Literal["example", "client"]
"""What neighbouring data sets differ in."""


class LedgerEntry(BaseModel):
    """One piece of noisy work.

    Attributes:
        key: what it was; work that is done again after its release is entered again.
        rate: of its sampling.
        noise: in clipping norms.
        steps: that it may have taken.
        private: False where the noise came from a seed: then nothing was protected.
        attempt: mark of the latest attempt at it; empty in ledgers that knew no reservations.
        released: whether anything of it may have been seen; until then it is reserved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    rate: float = Field(gt=0.0, le=1.0)
    noise: float = Field(gt=0.0, allow_inf_nan=False)
    steps: int = Field(ge=1)
    private: bool = True
    attempt: str = ""
    released: bool = True

    @property
    def expense(self) -> Expense:
        """The same to an accountant."""
        return Expense(self.rate, self.noise, self.steps)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit
    entries: tuple[LedgerEntry, ...] = ()


@dataclass(frozen=True)
class PrivacyBudget:
    """How much may be spent.

    Attributes:
        epsilon: at most; None for any amount.
        delta: at this delta.
        accountant: whose epsilon counts.
    """

    epsilon: float | None
    delta: float
    accountant: Accountant = "rdp"


class PrivacyLedger:
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
    def entries(self) -> tuple[LedgerEntry, ...]:
        """What was entered, in order."""
        return self._entries

    @property
    def private(self) -> bool:
        """Whether all noise so far was secret."""
        return all(entry.private for entry in self._entries)

    def expenses(self) -> list[Expense]:
        """All expenses so far, of what is reserved too."""
        return [entry.expense for entry in self._entries]

    def expenses_beside(self, entry: LedgerEntry) -> list[Expense]:
        """All expenses but that of one attempt."""
        return [other.expense for other in self._entries if not _same_attempt(other, entry)]

    def spent(self, delta: float) -> Spent:
        """The epsilon of all expenses so far."""
        return spent(self.expenses(), delta)

    def affordable_steps(self, wanted: Expense, budget: PrivacyBudget) -> int:
        """How many of the wanted steps the budget still buys, 0 to all."""
        if budget.epsilon is None:
            return wanted.steps
        return affordable(self.expenses(), wanted, budget.epsilon, budget.delta, budget.accountant)

    def reserve(self, key: str, wanted: Expense, budget: PrivacyBudget, *, private: bool = True) -> LedgerEntry:
        """Enters as many of the wanted steps as the budget buys; they are on the disk when this returns.

        What was reserved under this key, on the same terms and for no more steps, and was not released, is used again
        with the steps that it has.

        Returns:
            The entry, of at least 1 step: no further one may be taken under it, and it is released before anything of
            the work is.

        Raises:
            PrivacyError: the budget does not buy one step, or the ledger cannot be read.
            OSError: it cannot be written; then nothing may be released.
        """
        with locked(self.path):
            self._entries = self._read()
            before = self._reserved(key, wanted, private=private)
            steps = self._bought(wanted, budget, 1) if before is None else before.steps
            entry = LedgerEntry(
                key=key, rate=wanted.rate, noise=wanted.noise, steps=steps, private=private,
                attempt=secrets.token_hex(8), released=False,
            )  # fmt: skip
            self._put(entry, before)
        return entry

    def release(self, entry: LedgerEntry, budget: PrivacyBudget) -> None:
        """Something of an attempt is about to be seen: its entry is released, on the disk, when this returns.

        Where another attempt has taken its reservation over, its cost is entered anew. What is released already stays
        so.

        Raises:
            PrivacyError: it had to be entered anew and the budget does not buy it, or the ledger cannot be read.
            OSError: it cannot be written; then nothing may be released.
        """
        with locked(self.path):
            self._entries = self._read()
            before = next((one for one in self._entries if _same_attempt(one, entry)), None)
            if before is None:
                self._bought(entry.expense, budget, entry.steps)
            if before is None or not before.released:
                self._put(entry.model_copy(update={"released": True}), before)

    def _reserved(self, key: str, wanted: Expense, *, private: bool) -> LedgerEntry | None:
        """What is reserved under a key on these terms, for no more steps."""
        for entry in self._entries:
            same = (entry.key, entry.rate, entry.noise, entry.private) == (key, wanted.rate, wanted.noise, private)
            if same and entry.steps <= wanted.steps and not entry.released:
                return entry
        return None

    def _bought(self, wanted: Expense, budget: PrivacyBudget, least: int) -> int:
        """How many of the wanted steps the budget buys.

        Raises:
            PrivacyError: fewer than the least.
        """
        steps = self.affordable_steps(wanted, budget)
        if steps < least:
            have = self.spent(budget.delta).by(budget.accountant)
            more = "one more step" if least == 1 else f"{least} more steps"
            raise PrivacyError(
                f"the privacy budget is spent: epsilon {have:.4g} of {budget.epsilon:g} at delta {budget.delta:g} "
                f"({budget.accountant}), and {more} with noise {wanted.noise:g} at rate {wanted.rate:g} "
                "would exceed it: no further training is possible on these data"
            )
        return steps

    def _put(self, entry: LedgerEntry, before: LedgerEntry | None) -> None:
        """Writes an entry in the place of another one, or after all."""
        others = [entry if other is before else other for other in self._entries]
        entries = tuple(others if before is not None else [*others, entry])
        self._write(entries)
        self._entries = entries

    def _read(self) -> tuple[LedgerEntry, ...]:
        if not self.path.is_file():
            return ()
        try:
            file = _File.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            raise PrivacyError(
                f"{self.path} is no privacy ledger ({error.error_count()} faults): without it nobody knows what was "
                "spent; restore it, and train nothing on these data before"
            ) from error
        if file.unit != self.unit:
            raise PrivacyError(
                f"{self.path} counts the privacy of one {file.unit}, this run that of one {self.unit}: give the run a "
                "ledger of its own"
            )
        return file.entries

    def _write(self, entries: tuple[LedgerEntry, ...]) -> None:
        text = json.dumps(_File(unit=self.unit, entries=entries).model_dump(), indent=1)
        write_whole(self.path, text.encode(), durable=True)


def _same_attempt(one: LedgerEntry, other: LedgerEntry) -> bool:
    return (one.key, one.attempt) == (other.key, other.attempt)
