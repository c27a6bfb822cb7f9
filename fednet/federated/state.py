"""A model's state as a value: its digest, its bytes, its checks and the server's slots in it.

A state is a mapping from names to CPU tensors. The slots of the server's optimiser travel in the same mapping under
names that begin with "server/" (torch's own names have no slash), so that one digest covers both. Refuses to know what
a model is and where a state comes from; trusts no bytes. Layout: safetensors
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, deserialize
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

SERVER_PREFIX = "server/"
"""The prefix of the server's slots."""

MOST_TENSORS = 10_000
MOST_HEADER = 8 << 20
LONGEST_NAME = 500
MOST_DIMENSIONS = 16

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a state may consist of, by safetensors' names."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def digest(state: ModelState) -> str:
    """SHA-256 over every tensor's name, dtype, shape and little-endian row-major bytes, in sorted order of names.

    Independent of strides, device and the order of the mapping; a contiguous CPU tensor is not copied.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        ModelError: a dtype that a state cannot have, or a name that is none.
    """
    _require_storable(state)
    hashed = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        head = json.dumps([name, _NAMES[tensor.dtype], list(tensor.shape)]).encode()
        hashed.update(len(head).to_bytes(8, "little") + head)
        hashed.update(_raw(tensor))
    return hashed.hexdigest()


def pack(state: ModelState) -> bytes:
    """A state as the bytes of a safetensors file; the same state gives the same bytes on every machine.

    Raises:
        ModelError: a dtype that a state cannot have, or a name that is none.
    """
    _require_storable(state)
    ordered = sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0]))  # keeps everything aligned
    header, offset = {}, 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_HEADER:
        raise ModelError(f"a state with {len(text)} bytes of names is refused, at most {MOST_HEADER}: shorten them")
    return b"".join([len(text).to_bytes(8, "little"), text, *(_raw(tensor) for _, tensor in ordered)])


def unpack(buffer: bytes | memoryview) -> dict[str, Tensor]:
    """The state in the bytes of a safetensors file; the tensors own their memory. Bytes are never trusted.

    Raises:
        ModelError: these are no such bytes; too many tensors; a dtype or a name that a state cannot have.
    """
    whole = buffer if isinstance(buffer, bytes) else bytes(buffer)
    if int.from_bytes(whole[:8], "little") > MOST_HEADER:
        raise ModelError(f"a state's header of more than {MOST_HEADER} bytes is refused: send a safetensors file")
    try:
        parts = deserialize(whole)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(
            f"{len(whole)} bytes are no safetensors file ({error}): send one that `pack` has made"
        ) from None
    if len(parts) > MOST_TENSORS:
        raise ModelError(f"a state of {len(parts)} tensors is refused: at most {MOST_TENSORS}")
    return {name: _tensor(name, part) for name, part in sorted(parts)}


def detached_copy(state: ModelState) -> dict[str, Tensor]:
    """A detached contiguous CPU copy: what happens to the model afterwards does not reach it. Aliases part."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).resolve_conj().resolve_neg()
        for name, tensor in state.items()
    }


def require_like(state: ModelState, base: ModelState, whose: str) -> None:
    """Checks that a state has the names, dtypes and shapes of another one.

    Raises:
        ModelError: it has not; names the first tensor that does not fit, and whose it is.
    """
    for name in sorted(base.keys() | state.keys()):
        given, wanted = state.get(name), base.get(name)
        if wanted is None:
            raise ModelError(f"{whose}: the model has no tensor {_short(name)}: send exactly the model's tensors")
        if given is None:
            raise ModelError(f"{whose}: tensor {_short(name)} is missing: send all of the model's tensors")
        if given.dtype != wanted.dtype or given.shape != wanted.shape:
            raise ModelError(
                f"{whose}: tensor {_short(name)} is {_kind(given)}, expected {_kind(wanted)}: use the same model"
            )


def require_finite(state: ModelState, whose: str) -> None:
    """Checks that no float or complex tensor holds NaN or infinity.

    Raises:
        ModelError: one does; names the first, counts its bad values, and whose it is.
    """
    for name, tensor in sorted(state.items()):
        if not _finite(tensor):
            count = int((~torch.isfinite(_wide(tensor))).sum())
            raise ModelError(
                f"{whose}: tensor {_short(name)} has {count} of {tensor.numel()} values that are not finite: "
                "lower its learning rate, or look at its data"
            )


def size(state: ModelState) -> int:
    """The bytes of all values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def model_tensors(state: ModelState) -> dict[str, Tensor]:
    """The model alone, without the server's slots."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(SERVER_PREFIX)}


def optimiser_slots(state: ModelState) -> dict[str, Tensor]:
    """The server's slots alone, by their names without the prefix."""
    return {
        name.removeprefix(SERVER_PREFIX): tensor for name, tensor in state.items() if name.startswith(SERVER_PREFIX)
    }


def with_slots(model: ModelState, kept: ModelState) -> dict[str, Tensor]:
    """A model and the server's slots (by their names without the prefix) as one state.

    Raises:
        ModelError: a tensor of the model has a name that belongs to the server.
    """
    if taken := [name for name in model if name.startswith(SERVER_PREFIX)]:
        raise ModelError(
            f"tensor {_short(taken[0])}: names that begin with {SERVER_PREFIX!r} are the server's; rename it"
        )
    return {**model, **{SERVER_PREFIX + name: tensor for name, tensor in kept.items()}}


def flat(tensor: Tensor) -> Tensor:
    """A detached 1-D view of a tensor in row-major order (a copy where its strides demand one), on the CPU."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)


def _raw(tensor: Tensor) -> memoryview:
    """The little-endian row-major bytes of a tensor, without a copy where it lies so already."""
    values = flat(tensor).view(torch.uint8).numpy()
    return _swapped(values, tensor.dtype).data if sys.byteorder == "big" else values.data


def _swapped(values: Bytes, dtype: torch.dtype) -> Bytes:
    """Bytes of numbers with each number's bytes turned round."""
    width = dtype.itemsize // (2 if dtype.is_complex else 1)
    return np.ascontiguousarray(values.reshape(-1, width)[:, ::-1]).reshape(-1)


def _tensor(name: str, part: Mapping[str, Any]) -> Tensor:
    """One tensor of a file that the library has read; its sizes agree with its bytes, all else is to be checked."""
    if not _nameable(name):
        raise ModelError(f"a tensor's name {_short(name)} is refused: 1 to {LONGEST_NAME} printable characters")
    dtype, shape, data = DTYPES.get(part["dtype"]), list(part["shape"]), part["data"]
    if dtype is None:
        raise ModelError(f"tensor {_short(name)} of dtype {part['dtype']} is refused: one of {', '.join(DTYPES)}")
    if len(shape) > MOST_DIMENSIONS or max(shape, default=0) >= 1 << 62:
        raise ModelError(f"tensor {_short(name)} of {len(shape)} dimensions is refused: at most {MOST_DIMENSIONS}")
    if not data:
        return _empty(name, shape, dtype)
    values: Bytes = np.frombuffer(data, dtype=np.uint8)
    if dtype is torch.bool and values.max() > 1:
        raise ModelError(f"tensor {_short(name)} has a bool that is neither 0 nor 1: send what `pack` has made")
    if sys.byteorder == "big":
        values = _swapped(values, dtype)
    return torch.from_numpy(values).view(dtype).reshape(shape)


def _empty(name: str, shape: list[int], dtype: torch.dtype) -> Tensor:
    """A tensor without elements; its other sizes may be absurd, so that torch cannot make it."""
    if math.prod(length or 1 for length in shape) >= 1 << 62:
        raise ModelError(f"tensor {_short(name)} of shape {shape} is refused: it is too large to be empty")
    return torch.empty(shape, dtype=dtype)


def _require_storable(state: ModelState) -> None:
    if len(state) > MOST_TENSORS:
        raise ModelError(f"a state of {len(state)} tensors is refused: at most {MOST_TENSORS}")
    for name, tensor in state.items():
        if tensor.dtype not in _NAMES or tensor.dim() > MOST_DIMENSIONS:
            raise ModelError(f"tensor {_short(name)} is {_kind(tensor)}; a state has {', '.join(DTYPES)}: convert it")
        if not _nameable(name):
            raise ModelError(f"a tensor's name {_short(name)} is refused: 1 to {LONGEST_NAME} printable characters")


def _nameable(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and name != "__metadata__"


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite: the least and the largest are, and a NaN would be both."""
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    least, largest = torch.aminmax(_wide(tensor))
    return math.isfinite(least) and math.isfinite(largest)


def _wide(tensor: Tensor) -> Tensor:
    """Float or complex values as real ones that torch can compare."""
    values = flat(tensor)
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.float() if values.element_size() == 1 else values


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
