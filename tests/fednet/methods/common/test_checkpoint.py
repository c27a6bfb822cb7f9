"""Tensors and a note come back from a file; anything else is refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fednet.errors import ModelError
from fednet.methods.common.checkpoint import checkpoint_bytes, read_checkpoint, write_checkpoint

STATE = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.ones(2, dtype=torch.int64)}


def read(path: Path, **limits: int) -> tuple[Any, dict[str, Tensor]]:
    return read_checkpoint(path, "note", lambda note, state: (note["of"], state), "train again", **limits)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x" / "one", STATE, "note", '{"of": 3}')
    note, state = read(tmp_path / "x" / "one")
    assert note == 3
    assert list(state) == ["a", "b"]
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_equal_content_is_equal_bytes() -> None:
    assert checkpoint_bytes(STATE, "note", "{}") == checkpoint_bytes(dict(reversed(STATE.items())), "note", "{}")


def test_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one"
    with pytest.raises(ModelError, match="train again"):
        read(path)
    path.write_bytes(b"no such file")
    with pytest.raises(ModelError, match=r"cannot be used .*train again"):
        read(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ModelError, match="no entry 'note'"):
        read(path)
    for note in ("no JSON", "[]", "{}", "[" * 100_000):
        write_checkpoint(path, STATE, "note", note)
        with pytest.raises(ModelError, match="train again"):
            read(path)
    write_checkpoint(path, STATE, "note", '{"of": 3}')
    with pytest.raises(ModelError, match="more than 10 bytes"):
        read(path, max_bytes=10)
