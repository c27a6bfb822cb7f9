"""Model states as values: digest, serialisation, validation, the server optimiser's slots, and what is no weight.

A state is a mapping from names to CPU tensors. The slots of the server's optimiser are in the same mapping under names
that begin with "server/" (torch's own names have no slash), so that one digest covers both. Bytes are untrusted input.
How a state lies in its file, and what its digest is made of: `fednet.federated.state_file` and `hash_tree`.

A state is validated once, where it enters: bytes in `unpack`, a contribution or a replacement with `require_valid`, by
`fednet.federated.local_network` in one process and by `nodes.rounds` on the bus. What is computed from valid states is
not validated again, except where it may overflow (`fednet.federated.aggregation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, deserialize
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.state_file import (
    DTYPES,
    MAX_DIMENSIONS,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    StateFile,
    flat,
    require_bools,
    require_valid_name,
    short,
)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

SERVER_PREFIX = "server/"
"""Prefix of the names of the server optimiser's slots."""

STATISTIC_PREFIX = "running_"
"""Prefix of the last part of the names of running statistics."""


def digest(state: ModelState) -> str:
    """The root of the hash tree of the state's file: it names the state by names, dtypes, shapes and every bit.

    Independent of strides, device and the order of the mapping; a contiguous CPU tensor is not copied.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        ModelError: an unsupported dtype or an invalid name.
    """
    return StateFile(state).tree().root


def pack(state: ModelState) -> bytes:
    """Serialises a state as a safetensors file; equal states give equal bytes on every machine.

    Raises:
        ModelError: an unsupported dtype or an invalid name.
    """
    return b"".join(StateFile(state).chunks())


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
            raise ModelError(f"{whose}: the model has no tensor {short(name)}: expected exactly the model's tensors")
        if given is None:
            raise ModelError(f"{whose}: tensor {short(name)} is missing: expected all of the model's tensors")
        if given.dtype != wanted.dtype or given.shape != wanted.shape:
            raise ModelError(
                f"{whose}: tensor {short(name)} is {_kind(given)}, expected {_kind(wanted)}: use the same model"
            )


def require_finite(state: ModelState, whose: str) -> None:
    """Checks that no float or complex tensor holds NaN or infinity.

    Raises:
        ModelError: one does; the message begins with `whose`, names the first tensor and counts its bad values.
    """
    for name, tensor in sorted(state.items()):
        if not is_finite(tensor):
            count = int((~torch.isfinite(_wide(tensor))).sum())
            raise ModelError(
                f"{whose}: tensor {short(name)} has {count} of {tensor.numel()} values that are not finite: "
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
            f"tensor {short(taken[0])}: names that begin with {SERVER_PREFIX!r} are reserved for the server "
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


def _tensor(name: str, part: Mapping[str, Any]) -> Tensor:
    """One tensor of a file that safetensors has parsed; its shape agrees with its bytes, the rest is checked here."""
    require_valid_name(name)
    dtype, shape, data = DTYPES.get(part["dtype"]), list(part["shape"]), part["data"]
    if dtype is None:
        raise ModelError(f"tensor {short(name)} has dtype {part['dtype']}; expected one of {', '.join(DTYPES)}")
    if len(shape) > MAX_DIMENSIONS or max(shape, default=0) >= 1 << 62:
        raise ModelError(f"tensor {short(name)} has {len(shape)} dimensions: at most {MAX_DIMENSIONS} are allowed")
    if not data:
        return _empty(name, shape, dtype)
    values: Bytes = np.frombuffer(data, dtype=np.uint8)
    if dtype is torch.bool:
        require_bools(torch.from_numpy(values), name)
    return torch.from_numpy(values).view(dtype).reshape(shape)


def _empty(name: str, shape: list[int], dtype: torch.dtype) -> Tensor:
    """A tensor without elements; its other sizes may be too large for torch."""
    if math.prod(length or 1 for length in shape) >= 1 << 62:
        raise ModelError(f"tensor {short(name)} of shape {shape} is empty, but its other sizes are too large")
    return torch.empty(shape, dtype=dtype)


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite.

    What is not finite shows in the sum, which takes a sixth of the time of the extremes; large values may overflow it.
    """
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = _wide(tensor)
    return math.isfinite(values.sum()) or all(map(math.isfinite, torch.aminmax(values)))


def _wide(tensor: Tensor) -> Tensor:
    """Float or complex values as real ones of a dtype that aminmax supports."""
    values = flat(tensor)
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.float() if values.element_size() == 1 else values


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
