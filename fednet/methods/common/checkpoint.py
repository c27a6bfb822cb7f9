"""Tensors with a JSON note in one safetensors file; nothing that is read back is trusted. Knows no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.state import detached_copy
from fednet.files import write_whole

T = TypeVar("T")

MAX_BYTES = 1 << 34
"""Of a file, unless a smaller limit is given."""


def checkpoint_bytes(state: ModelState, key: str, note: str) -> bytes:
    """A safetensors file of CPU copies of the tensors, with a note (a JSON text) under `key` in its metadata."""
    return save(detached_copy(state), {key: note})


def write_checkpoint(path: Path, state: ModelState, key: str, note: str) -> None:
    """Writes `checkpoint_bytes` whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, checkpoint_bytes(state, key, note))


def read_checkpoint(
    path: Path,
    key: str,
    parse: Callable[[Any, dict[str, Tensor]], T],
    remedy: str,
    max_bytes: int = MAX_BYTES,
) -> T:
    """What `parse` makes of a file's note and tensors.

    Args:
        path: the file.
        key: of the note in its metadata.
        parse: gets the note as JSON gives it, and the tensors by name in sorted order; raises ValueError, KeyError or
            TypeError where they do not fit.
        remedy: what to do where the file cannot be used, for the message.
        max_bytes: the largest file that is opened.

    Raises:
        ModelError: the file cannot be read, is too large, or `parse` refuses it.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError(f"more than {max_bytes} bytes")
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})[key])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return parse(note, tensors)
    except KeyError as error:
        raise ModelError(f"{path} cannot be used (no entry {error}): {remedy}") from error
    except (OSError, SafetensorError, TypeError, ValueError, RecursionError) as error:
        detail = f"{error.error_count()} faults in its note" if isinstance(error, ValidationError) else str(error)
        raise ModelError(f"{path} cannot be used ({detail}): {remedy}") from error
