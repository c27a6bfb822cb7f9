"""For whose sums this member has revealed shares: for no other survivors of the same base, ever.

The difference of two sums of contributions to one base is what those contributed that are in one of them only. So the
survivors are written down before shares are revealed, by the base's digest and by the round's number, and are on the
disk, file and folder, when anybody sees a share. A later incarnation reads them. Knows nothing of shares.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fednet.errors import ModelError, PrivacyError
from fednet.files import LineFile, make_folder, whole_lines

REVEALED = "revealed.jsonl"


class RevealedSum(BaseModel):
    """A sum for which shares were revealed.

    Attributes:
        model: which model.
        number: of the round.
        base: the digest of the state that its contributions start from.
        survivors: whose contributions it adds up, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    number: int
    base: str
    survivors: tuple[str, ...]

    @property
    def bases(self) -> tuple[tuple[str, str | int], ...]:
        """What it must be the only sum of: the state, and the round of the model."""
        return (self.model, self.base), (self.model, self.number)


class RevealedSums:
    """The sums for which a member has revealed shares.

    Args:
        folder: where they are kept; None keeps nothing on disk.

    Raises:
        ModelError: the folder holds something else than what was written there.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._survivors: dict[tuple[str, str | int], tuple[str, ...]] = {}
        if folder is not None and (folder / REVEALED).is_file():
            for each in _read(folder / REVEALED):
                self._note(each)

    def require_only(self, wanted: RevealedSum) -> None:
        """Refuses a sum of another set of survivors than was revealed for.

        Raises:
            PrivacyError: shares were revealed for others; names those without whom it would be the same sum.
        """
        for base in wanted.bases:
            before = self._survivors.get(base, wanted.survivors)
            if before != wanted.survivors:
                added = set(wanted.survivors) - set(before)
                peers = tuple(sorted(added)) if added == set(wanted.survivors) ^ set(before) else ()
                raise PrivacyError(
                    f"round {wanted.number} of {wanted.model} starts from what was unmasked for {', '.join(before)} "
                    f"already, and the difference to a sum of {', '.join(wanted.survivors)} would show: "
                    + (f"hold it without {', '.join(peers)}" if peers else
                       "continue from another model, or without `secure`"),
                    peers,
                )  # fmt: skip

    def remember(self, revealed: RevealedSum) -> None:
        """Writes a sum down; it is on the disk when this returns, and shares may be revealed.

        Raises:
            PrivacyError: shares were revealed for others.
            OSError: it cannot be written; then nothing may be revealed.
        """
        self.require_only(revealed)
        if all(base in self._survivors for base in revealed.bases):
            return
        if self._folder is not None:
            make_folder(self._folder, durable=True)
            with LineFile(self._folder / REVEALED, durable=True) as file:
                file.append(revealed.model_dump_json())
        self._note(revealed)

    def _note(self, revealed: RevealedSum) -> None:
        self._survivors.update(dict.fromkeys(revealed.bases, revealed.survivors))


def _read(path: Path) -> list[RevealedSum]:
    """All sums in a file; what a loss of power has left of a last line was never revealed for, and is removed."""
    try:
        return [RevealedSum.model_validate_json(line) for line in whole_lines(path)]
    except ValidationError as error:
        raise ModelError(
            f"{path} does not say for whose sums shares were revealed ({error.error_count()} faults): restore it, or "
            "remove it and begin with another model"
        ) from error
