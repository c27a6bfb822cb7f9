"""What a site has told of its private data without noise: a file that is written before each answer leaves.

No epsilon covers such an answer, so that its number is what is limited. Beside the ledger of noisy releases
(`fednet.privacy.ledger`), and of the same standing: data with an entry here are NOT PRIVATE.
Knows no question's meaning.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fednet.errors import PrivacyError
from fednet.files import locked, write_whole

LEDGER_FOLDER = "privacy"
"""In a run's folder: the ledgers of its sites."""
SUFFIX = ".disclosures.json"


class DisclosureEntry(BaseModel):
    """Answers to one kind of question.

    Attributes:
        question: which.
        times: how often it was answered.
        pictures: from how many pictures, in all answers together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    times: int = Field(ge=1)
    pictures: int = Field(ge=0)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[DisclosureEntry, ...] = ()


class DisclosureLedger:
    """The disclosures of one site, in one file that several processes may share.

    Args:
        folder: of the site's ledgers; it need not be there.
        site: whose.
    """

    def __init__(self, folder: Path, site: str) -> None:
        self.path = folder / f"{site}{SUFFIX}"

    def entries(self) -> tuple[DisclosureEntry, ...]:
        """What was disclosed so far.

        Raises:
            PrivacyError: the file is damaged.
        """
        if not self.path.is_file():
            return ()
        try:
            return _File.model_validate_json(self.path.read_bytes()).entries
        except ValidationError as error:
            raise PrivacyError(
                f"{self.path} is no ledger of disclosures ({error.error_count()} faults): without it nobody knows what "
                "was told; restore it, and permit no such question before"
            ) from error

    def disclose(self, question: str, pictures: int, times: int) -> int:
        """Enters one more answer; it is on the disk, and may leave, when this returns.

        Args:
            question: which.
            pictures: that it is computed from.
            times: how often it is answered at most.

        Returns:
            How often it may be answered after this.

        Raises:
            PrivacyError: it was answered so often already, or the ledger cannot be read.
            OSError: it cannot be written; then nothing may leave.
        """
        with locked(self.path):
            entries = {entry.question: entry for entry in self.entries()}
            before = entries.get(question)
            already, seen = (before.times, before.pictures) if before else (0, 0)
            if already >= times:
                raise PrivacyError(f"{question!r} was answered {already} times, and {times} are permitted")
            entries[question] = DisclosureEntry(question=question, times=already + 1, pictures=seen + pictures)
            written = _File(entries=tuple(entries.values())).model_dump_json(indent=1)
            write_whole(self.path, written.encode(), durable=True)
        return times - already - 1
