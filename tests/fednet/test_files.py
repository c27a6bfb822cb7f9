"""A file is the old one or the new one, and nothing is left beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fednet.errors import UsageError
from fednet.files import read_bounded, require_writable, write_whole


def test_it_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    for content in (b"first", b"second, longer", b""):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_whole(path, b"old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    with pytest.raises(UsageError, match="at most 4 bytes"):
        read_bounded(tmp_path / "x", 4)


@pytest.mark.parametrize("name", ["absent", "", "pipe"])
def test_only_regular_files_are_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="an existing file"):
        read_bounded(tmp_path / name, 5)


@pytest.mark.parametrize("name", ["", "no/such/x.png"])
def test_a_file_to_write_needs_an_existing_folder(tmp_path: Path, name: str) -> None:
    assert require_writable(tmp_path / "x.png", "-o") == tmp_path / "x.png"
    with pytest.raises(UsageError, match=r"-o .*: expected a file in a folder that exists"):
        require_writable(tmp_path / name, "-o")
