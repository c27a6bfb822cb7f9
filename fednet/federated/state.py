"""Model states as values: digest, serialisation, validation, the server optimiser's slots, and what is no weight.

A state is a mapping from names to CPU tensors. The slots of the server's optimiser are in the same mapping under names
that begin with "server/" (torch's own names have no slash), so that one digest covers both. Bytes are untrusted input.

A state is validated once, where it enters: bytes in `unpack`, a contribution or a replacement with `require_valid`, by
`fednet.federated.local_network` in one process and by `nodes.rounds` on the bus. What is computed from valid states is
not validated again, except where it may overflow (`fednet.federated.aggregation`). Layout: safetensors
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
import math
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
"""Prefix of the names of the server optimiser's slots."""

STATISTIC_PREFIX = "running_"
"""Prefix of the last part of the names of running statistics."""

MAX_TENSORS = 10_000
MAX_HEADER_BYTES = 8 << 20
MAX_NAME_LENGTH = 500
MAX_DIMENSIONS = 16

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
"""The dtypes of a state, by safetensors' names."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def digest(state: ModelState) -> str:
    """SHA-256 over every tensor's name, dtype, shape and little-endian row-major bytes, in sorted order of names.

    Independent of strides, device and the order of the mapping; a contiguous CPU tensor is not copied.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        ModelError: an unsupported dtype or an invalid name.
    """
    _require_storable(state)
    hashed = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        head = json.dumps([name, _NAMES[tensor.dtype], list(tensor.shape)]).encode()
        hashed.update(len(head).to_bytes(8, "little") + head)
        hashed.update(_raw(tensor))
    return hashed.hexdigest()


def pack(state: ModelState) -> bytes:
    """Serialises a state as a safetensors file; equal states give equal bytes on every machine.

    Raises:
        ModelError: an unsupported dtype or an invalid name.
    """
    _require_storable(state)
    ordered = sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0]))  # keeps tensors aligned
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
    if len(text) > MAX_HEADER_BYTES:
        raise ModelError(
            f"the state's header has {len(text)} bytes, at most {MAX_HEADER_BYTES} are allowed: shorten the names"
        )
    return b"".join([len(text).to_bytes(8, "little"), text, *(_raw(tensor) for _, tensor in ordered)])


def unpack(buffer: bytes | memoryview) -> dict[str, Tensor]:
    """Reads a state from the bytes of a safetensors file; the tensors own their memory.

    Raises:
        ModelError: not a safetensors file, too many tensors, an unsupported dtype or an invalid name.
    """
    whole = buffer if isinstance(buffer, bytes) else bytes(buffer)
    if int.from_bytes(whole[:8], "little") > MAX_HEADER_BYTES:
        raise ModelError(f"the header has more than {MAX_HEADER_BYTES} bytes: expected a safetensors file")
    try:
        parts = deserialize(whole)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(f"{len(whole)} bytes are not a safetensors file ({error}): use the output of `pack`") from None
    if len(parts) > MAX_TENSORS:
        raise ModelError(f"a state of {len(parts)} tensors: at most {MAX_TENSORS} are allowed")
    return {name: _tensor(name, part) for name, part in sorted(parts)}


def detached_copy(state: ModelState) -> dict[str, Tensor]:
    """A detached contiguous CPU copy that shares no memory with the state, nor its tensors with each other."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).resolve_conj().resolve_neg()
        for name, tensor in state.items()
    }


def require_like(state: ModelState, base: ModelState, whose: str) -> None:
    """Checks that a state has the names, dtypes and shapes of another one.

    Raises:
        ModelError: it has not; the message begins with `whose` and names the first tensor that differs.
    """
    for name in sorted(base.keys() | state.keys()):
        given, wanted = state.get(name), base.get(name)
        if wanted is None:
            raise ModelError(f"{whose}: the model has no tensor {_short(name)}: expected exactly the model's tensors")
        if given is None:
            raise ModelError(f"{whose}: tensor {_short(name)} is missing: expected all of the model's tensors")
        if given.dtype != wanted.dtype or given.shape != wanted.shape:
            raise ModelError(
                f"{whose}: tensor {_short(name)} is {_kind(given)}, expected {_kind(wanted)}: use the same model"
            )


def require_finite(state: ModelState, whose: str) -> None:
    """Checks that no float or complex tensor holds NaN or infinity.

    Raises:
        ModelError: one does; the message begins with `whose`, names the first tensor and counts its bad values.
    """
    for name, tensor in sorted(state.items()):
        if not _finite(tensor):
            count = int((~torch.isfinite(_wide(tensor))).sum())
            raise ModelError(
                f"{whose}: tensor {_short(name)} has {count} of {tensor.numel()} values that are not finite: "
                "lower the learning rate or check the data"
            )


def require_valid(state: ModelState, base: ModelState, whose: str) -> None:
    """`require_like` and `require_finite`: whether a state that enters can be used in place of `base`.

    Raises:
        ModelError: it cannot.
    """
    require_like(state, base, whose)
    require_finite(state, whose)


def size(state: ModelState) -> int:
    """The total size of all values in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def model_tensors(state: ModelState) -> dict[str, Tensor]:
    """The model's tensors, without the server optimiser's slots."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(SERVER_PREFIX)}


def optimiser_slots(state: ModelState) -> dict[str, Tensor]:
    """The server optimiser's slots, by their names without the prefix."""
    return {
        name.removeprefix(SERVER_PREFIX): tensor for name, tensor in state.items() if name.startswith(SERVER_PREFIX)
    }


def with_slots(model: ModelState, slots: ModelState) -> dict[str, Tensor]:
    """A model and the server optimiser's slots (by their names without the prefix) as one state.

    Raises:
        ModelError: a tensor of the model has a name that begins with "server/".
    """
    if taken := [name for name in model if name.startswith(SERVER_PREFIX)]:
        raise ModelError(
            f"tensor {_short(taken[0])}: names that begin with {SERVER_PREFIX!r} are reserved for the server "
            "optimiser: rename it"
        )
    return {**model, **{SERVER_PREFIX + name: tensor for name, tensor in slots.items()}}


def is_statistic(name: str) -> bool:
    """Whether a tensor is a running statistic, not a weight, by its name: its last part begins with "running_".

    Those are torch's names in every norm that keeps statistics (BatchNorm's `running_mean` and `running_var`), and a
    method's own float buffers can be named so. A statistic has no gradient: an optimiser's step, a stale change or
    noise would move a variance below 0, while a mean of variances is one.
    """
    return name.rpartition(".")[2].startswith(STATISTIC_PREFIX)


def flat(tensor: Tensor) -> Tensor:
    """A detached 1-D view of a tensor in row-major order (a copy where its strides demand one), on the CPU."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)


def _raw(tensor: Tensor) -> memoryview:
    """The row-major bytes of a tensor; a contiguous CPU tensor is not copied."""
    return flat(tensor).view(torch.uint8).numpy().data


def _tensor(name: str, part: Mapping[str, Any]) -> Tensor:
    """One tensor of a file that safetensors has parsed; its shape agrees with its bytes, the rest is checked here."""
    _require_valid_name(name)
    dtype, shape, data = DTYPES.get(part["dtype"]), list(part["shape"]), part["data"]
    if dtype is None:
        raise ModelError(f"tensor {_short(name)} has dtype {part['dtype']}; expected one of {', '.join(DTYPES)}")
    if len(shape) > MAX_DIMENSIONS or max(shape, default=0) >= 1 << 62:
        raise ModelError(f"tensor {_short(name)} has {len(shape)} dimensions: at most {MAX_DIMENSIONS} are allowed")
    if not data:
        return _empty(name, shape, dtype)
    values: Bytes = np.frombuffer(data, dtype=np.uint8)
    if dtype is torch.bool and values.max() > 1:
        raise ModelError(f"tensor {_short(name)} has a bool that is neither 0 nor 1: use the output of `pack`")
    return torch.from_numpy(values).view(dtype).reshape(shape)


def _empty(name: str, shape: list[int], dtype: torch.dtype) -> Tensor:
    """A tensor without elements; its other sizes may be too large for torch."""
    if math.prod(length or 1 for length in shape) >= 1 << 62:
        raise ModelError(f"tensor {_short(name)} of shape {shape} is empty, but its other sizes are too large")
    return torch.empty(shape, dtype=dtype)


def _require_storable(state: ModelState) -> None:
    if len(state) > MAX_TENSORS:
        raise ModelError(f"a state of {len(state)} tensors: at most {MAX_TENSORS} are allowed")
    for name, tensor in state.items():
        if tensor.dtype not in _NAMES or tensor.dim() > MAX_DIMENSIONS:
            raise ModelError(
                f"tensor {_short(name)} is {_kind(tensor)}; expected one of {', '.join(DTYPES)} in at most "
                f"{MAX_DIMENSIONS} dimensions"
            )
        _require_valid_name(name)


def _require_valid_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable() or name == "__metadata__":
        raise ModelError(f"invalid tensor name {_short(name)}: expected 1 to {MAX_NAME_LENGTH} printable characters")


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite; aminmax propagates NaN and is faster than isfinite().all()."""
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    least, largest = torch.aminmax(_wide(tensor))
    return math.isfinite(least) and math.isfinite(largest)


def _wide(tensor: Tensor) -> Tensor:
    """Float or complex values as real ones of a dtype that aminmax supports."""
    values = flat(tensor)
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.float() if values.element_size() == 1 else values


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
