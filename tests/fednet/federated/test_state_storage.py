"""Bytes of states on the disk and in memory."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.errors import DiskFull
from fednet.federated import state_storage
from fednet.federated.packed_state import PackedState
from fednet.federated.state_storage import (
    DiskStorage,
    StateStorage,
    WritableStorage,
    allocated,
)
from fednet.files import disk_full

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def every_size_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_storage, "IN_MEMORY", 0)


def test_small_states_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_storage, "IN_MEMORY", 10)
    assert not isinstance(allocated(10, tmp_path), DiskStorage)
    assert isinstance(allocated(11, tmp_path), DiskStorage)


def filled(folder: Path | None) -> WritableStorage:
    storage = allocated(len(CONTENT), folder)
    storage.write(5000, CONTENT[5000:])
    storage.write(0, CONTENT[:5000])
    return storage


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_is_written_is_read_and_kept(tmp_path: Path, on_disk: bool) -> None:
    storage = filled(tmp_path / "states" if on_disk else None)
    assert isinstance(storage, DiskStorage) == on_disk
    assert storage.data == CONTENT
    assert storage.data.readonly
    for name in ("one", "two"):
        storage.keep(tmp_path / "states" / name)
        assert StateStorage.opened(tmp_path / "states" / name).data == CONTENT
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["one", "two"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "states").iterdir()} == {0o600}


def test_a_file_on_the_disk_is_named_and_not_copied(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    assert isinstance(storage, DiskStorage)
    storage.keep(tmp_path / "one")
    storage.keep(tmp_path / "two")
    files = [os.fstat(storage._file), (tmp_path / "one").stat(), (tmp_path / "two").stat()]
    assert len({file.st_ino for file in files}) == 1


def test_what_nobody_keeps_is_gone_with_its_last_reader(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    data = storage.data
    assert not list(tmp_path.iterdir()), "it has no name"
    del storage
    gc.collect()
    assert not list(tmp_path.iterdir())
    assert data == CONTENT


def test_a_kept_file_may_be_removed_while_it_is_read(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    storage.keep(tmp_path / "state")
    (tmp_path / "state").unlink()
    assert storage.data == CONTENT


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        filled(tmp_path).keep(tmp_path / "state")
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space") as raised:
        DiskStorage(1000, tmp_path)
    assert isinstance(disk_full(raised.value), DiskFull)
    raised.value.__traceback__ = None
    del raised
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_where_files_need_names_a_copy_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuses(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refuses)
    storage = filled(tmp_path)
    assert not list(tmp_path.iterdir())
    storage.keep(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == CONTENT


def test_a_state_on_the_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    state = {"w": torch.arange(1 << 19, dtype=torch.float32), "n": torch.tensor(3)}
    stored, memory = PackedState.of(state, lambda size: DiskStorage(size, tmp_path)), PackedState.of(state)
    assert (stored.tree, stored.layout, stored.file) == (memory.tree, memory.layout, memory.file)
    stored.storage.keep(tmp_path / "state")
    read = PackedState.read(StateStorage.opened(tmp_path / "state"))
    assert read.tree == memory.tree
    assert all(torch.equal(read.state[name], value) for name, value in state.items())
