"""Encodes tensors as frames and decodes them.

A tensor travels as one frame beside the header, which holds its `Descriptor`. Four encodings:

    raw   the tensor's own bytes, bit for bit, for every dtype
    bf16  rounded to bfloat16     relative error <= 2^-8 for normal numbers
    fp16  rounded to float16      relative error <= 2^-11 for normal numbers
    int8  blockwise absolute maximum, 64 values a block    |x - y| <= absmax/254 (1 + 2^-12) + 2^-119

The three lossy ones apply to real floating point; every other dtype is always raw. The sender rejects values that
would overflow, and non-finite values as int8. A decoded tensor has the dtype of the original; if that is a half, the
int8 bound grows by its own rounding, absmax 2^-8 (bfloat16) or absmax 2^-11 (float16).

Raw bytes are not copied. A contiguous CPU tensor is sent from its own storage, so that it must not be written to once
it is part of a message. A received tensor is a view of its frame and keeps it alive; small, unaligned and read-only
frames are copied.

Blockwise absmax as in Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section 2.1; differs in
the linear instead of the dynamic code book, and in blocks of 64. Byte order is little-endian.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from protocol.errors import EncodingError, WireError
from protocol.frames import Buffer

if sys.byteorder != "little":  # pragma: no cover - no such machine runs torch
    raise ImportError("fednet needs a little-endian machine: tensors are encoded in that order")

Encoding = Literal["raw", "bf16", "fp16", "int8"]
"""The encoding of the values of a floating point tensor."""

DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
    "float8_e8m0fnu": torch.float8_e8m0fnu,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "complex32": torch.complex32,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}
"""The dtypes by their names on the wire."""

BLOCK = 64
"""Values per scale in the int8 encoding."""

SMALL = 4096
"""Bytes up to which a received frame is copied, rather than keeping a whole network buffer alive for it."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LOSSY = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_UNKNOWN_TO_NUMPY = frozenset(
    {dtype for name, dtype in DTYPES.items() if name.startswith("float8_")} | {torch.bfloat16, torch.complex32}
)
_LARGEST_EXTENT = 2**63 - 1
_LARGEST_INT8 = 2.0**127  # absmax below this: a float32 scale times any int8 stays finite


class Descriptor(NamedTuple):
    """The description of a tensor in the header: all that its frame is decoded with.

    Attributes:
        dtype: its name in `DTYPES`.
        shape: its dimensions; () is a single value.
        encoding: a row of the table of encodings.
    """

    dtype: str
    shape: tuple[int, ...]
    encoding: str

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensor in memory."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def frame_bytes(self) -> int:
        """Bytes of the tensor's frame."""
        return _CODINGS[self.encoding].size(prod(self.shape), DTYPES[self.dtype].itemsize)


def describe(dtype: object, shape: object, encoding: object, max_dims: int) -> Descriptor:
    """Validates a peer's description of a tensor, before any byte of it is read.

    Raises:
        WireError: an unknown dtype or encoding, an encoding that does not apply, or an impossible shape.
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError("unknown dtype", dtype=dtype if isinstance(dtype, str) else type(dtype))
    if not isinstance(encoding, str) or encoding not in _CODINGS:
        raise WireError("unknown tensor encoding", encoding=encoding if isinstance(encoding, str) else type(encoding))
    if encoding != "raw" and DTYPES[dtype] not in _LOSSY:
        raise WireError("encoding does not apply to dtype", encoding=encoding, dtype=dtype)
    if not isinstance(shape, tuple) or len(shape) > max_dims:
        raise WireError("shape is not an array of dimensions, or has too many", most=max_dims)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise WireError("a dimension is not a number >= 0")
    if prod(max(size, 1) for size in shape) * DTYPES[dtype].itemsize > _LARGEST_EXTENT:
        raise WireError("shape is beyond what can be addressed", shape=shape)
    return Descriptor(dtype, shape, encoding)


def pack(tensor: Tensor, encoding: Encoding = "raw") -> tuple[Descriptor, memoryview]:
    """A tensor as its descriptor and its frame, which is a view of the tensor's storage where possible.

    Args:
        tensor: any shape, any dtype of `DTYPES`, any device; contiguous or not. Never written to again.
        encoding: of floating point; other dtypes are raw.

    Returns:
        The descriptor for the header, and the frame, read-only.

    Raises:
        EncodingError: the tensor has no plain storage, or the encoding cannot hold its values.
    """
    name = _NAMES.get(tensor.dtype)
    if name is None or tensor.layout is not torch.strided or tensor.is_meta or tensor.is_nested:
        raise EncodingError(
            "expected a dense tensor with storage, of a dtype in protocol.tensors.DTYPES",
            dtype=tensor.dtype,
            layout=tensor.layout,
            device=tensor.device,
        )
    chosen = encoding if tensor.dtype in _LOSSY else "raw"
    plain = _plain(tensor)
    written = _CODINGS[chosen].write(plain.view(-1)) if chosen != "raw" and plain.numel() else plain
    return Descriptor(name, tuple(tensor.shape), chosen), _bytes(written)


def unpack(descriptor: Descriptor, buffer: Buffer) -> Tensor:
    """The tensor in a frame.

    Args:
        descriptor: as `describe` returned it.
        buffer: the frame; kept alive by the tensor, which may be a view of it.

    Returns:
        A CPU tensor of the described dtype and shape.

    Raises:
        WireError: the frame's size does not match the descriptor, or its bytes are not values of the dtype.
    """
    if len(buffer) != descriptor.frame_bytes:
        raise WireError("tensor frame has the wrong size", bytes=len(buffer), expected=descriptor.frame_bytes)
    dtype = DTYPES[descriptor.dtype]
    if not buffer:
        return torch.empty(descriptor.shape, dtype=dtype)
    flat = _CODINGS[descriptor.encoding].read(memoryview(buffer), dtype)
    return flat if len(descriptor.shape) == 1 else flat.view(descriptor.shape)


@dataclass(frozen=True)
class _Coding:
    """One encoding; to add one, add a row to `_CODINGS`.

    Attributes:
        size: bytes of the frame for (number of values, bytes of one value).
        write: turns a flat, contiguous, non-empty CPU tensor into one whose bytes are the frame.
        read: turns a non-empty frame of the right size into a flat tensor of a dtype.
    """

    size: Callable[[int, int], int]
    write: Callable[[Tensor], Tensor]
    read: Callable[[memoryview, torch.dtype], Tensor]


def _read_raw(frame: memoryview, dtype: torch.dtype) -> Tensor:
    if dtype is not torch.bool:
        return _view(frame, dtype)
    values = _view(frame, torch.uint8)
    if int(values.max()) > 1:
        raise WireError("a bool is neither 0 nor 1")
    return values.view(torch.bool)


def _write_half(half: torch.dtype, flat: Tensor) -> Tensor:
    rounded, largest = flat.to(half), torch.finfo(half).max
    if not bool(flat.abs().amax() <= largest) and not torch.equal(rounded.isinf(), flat.isinf()):
        raise EncodingError(f"a value overflows {half}; send it raw", largest=largest)
    return rounded


def _read_half(half: torch.dtype, frame: memoryview, dtype: torch.dtype) -> Tensor:
    return _view(frame, half).to(dtype)


def _int8_size(count: int, itemsize: int) -> int:  # noqa: ARG001 - one signature for all encodings
    return 4 * -(-count // BLOCK) + count


def _write_int8(flat: Tensor) -> Tensor:
    blocks = torch.nn.functional.pad(flat.float(), (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    absmax = blocks.abs().amax(1, keepdim=True)
    if not bool((absmax < _LARGEST_INT8).all()):
        raise EncodingError("int8 holds finite values below 2^127 only; send it raw")
    scales = absmax / 127
    steps = (blocks / scales).nan_to_num_(0.0).round_().clamp_(-127, 127)  # a block of zeros has scale 0
    codes = steps.to(torch.int8).view(-1)[: len(flat)]
    return torch.cat([scales.view(-1).view(torch.int8), codes])


def _read_int8(frame: memoryview, dtype: torch.dtype) -> Tensor:
    count = len(frame) - 4 * -(-len(frame) // (BLOCK + 4))
    split = len(frame) - count
    scales, codes = _view(frame[:split], torch.float32), _view(frame[split:], torch.int8)
    blocks = torch.nn.functional.pad(codes.float(), (0, -count % BLOCK)).view(-1, BLOCK)
    values = (blocks * scales.view(-1, 1)).view(-1)[:count].to(dtype)
    if not bool(values.isfinite().all()):
        raise WireError("an int8 frame does not decode to finite values")
    return values


_CODINGS: dict[str, _Coding] = {
    "raw": _Coding(lambda count, itemsize: count * itemsize, lambda flat: flat, _read_raw),
    "bf16": _Coding(
        lambda count, _: 2 * count, partial(_write_half, torch.bfloat16), partial(_read_half, torch.bfloat16)
    ),
    "fp16": _Coding(
        lambda count, _: 2 * count, partial(_write_half, torch.float16), partial(_read_half, torch.float16)
    ),
    "int8": _Coding(_int8_size, _write_int8, _read_int8),
}


def _plain(tensor: Tensor) -> Tensor:
    """A tensor as contiguous values on the CPU: itself if it is so, since every operation costs microseconds."""
    lazy = tensor.requires_grad or tensor.is_conj() or tensor.is_neg()
    if lazy or not tensor.is_cpu or not tensor.is_contiguous():
        return tensor.detach().resolve_conj().resolve_neg().contiguous().cpu()
    return tensor


def _bytes(plain: Tensor) -> memoryview:
    """The storage of a contiguous CPU tensor; the view keeps it alive. A view costs numpy a tenth of torch's time."""
    if plain.dtype in _UNKNOWN_TO_NUMPY:
        plain = plain.view(-1).view(torch.uint8)
    return plain.numpy().reshape(-1).view("uint8").data.toreadonly()


def _view(frame: memoryview, dtype: torch.dtype) -> Tensor:
    """A flat tensor in a non-empty frame, or in a copy of one that is read-only, unaligned or small."""
    if frame.readonly or len(frame) <= SMALL:
        return torch.frombuffer(bytearray(frame), dtype=dtype)
    flat = torch.frombuffer(frame, dtype=dtype)
    if flat.data_ptr() % dtype.itemsize:
        return torch.frombuffer(bytearray(frame), dtype=dtype)
    return flat
