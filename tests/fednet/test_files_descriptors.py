"""Files are written also where all descriptors are taken for a moment, and not without end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fednet import files


class Crowded:
    """An operating system without a descriptor for so many attempts, and its clock."""

    def __init__(self, attempts: float, error: int = errno.EMFILE) -> None:
        self.attempts, self.error, self.now = attempts, error, 0.0
        self._open = os.open

    def open(self, *of: object) -> int:
        self.attempts -= 1
        if self.attempts >= 0:
            raise OSError(self.error, os.strerror(self.error))
        return self._open(*of)  # type: ignore[arg-type]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def crowd(patch: pytest.MonkeyPatch, system: Crowded) -> None:
    patch.setattr(os, "open", system.open)
    patch.setattr(files, "time", system)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
def test_a_file_waits_for_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    crowd(monkeypatch, Crowded(50, error))
    files.write_whole(tmp_path / "vote", b"for", durable=True)
    assert (tmp_path / "vote").read_bytes() == b"for"


def test_who_never_gets_one_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(monkeypatch, system := Crowded(float("inf")))
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        files.write_whole(tmp_path / "vote", b"for")
    assert system.now == pytest.approx(files.OPEN_PATIENCE, rel=0.1)


def test_nothing_else_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(monkeypatch, system := Crowded(1, errno.EACCES))
    with pytest.raises(PermissionError):
        files.write_whole(tmp_path / "vote", b"for")
    assert system.now == 0
