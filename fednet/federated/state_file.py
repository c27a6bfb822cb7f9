"""A state as a file: one canonical layout for equal names, dtypes and shapes, its chunks, and the state in its bytes.

The file is safetensors (https://github.com/huggingface/safetensors, "Format") with the tensors in the order of
decreasing element size, then of names, and a header that is padded to 8 bytes. So equal states give equal bytes on
every machine, every element is aligned, and no chunk (`fednet.federated.hash_tree`) ends within one. Foreign bytes are
only read if they are exactly what would have been written: what a header says is then known to be true.
"""

from __future__ import annotations

import json
import math
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.hash_tree import CHUNK, HashTree
from fednet.federated.state_storage import Bytes

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

with warnings.catch_warnings(action="ignore"):  # torch warns once in a program about read-only buffers: here
    torch.frombuffer(b"-", dtype=torch.uint8)


@dataclass(frozen=True)
class Entry:
    """Where a tensor is in a file: bytes `start` to `stop`."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Segment:
    """Values of one dtype that lie side by side in a range of a file: bytes `start` to `stop` of that range.

    Attributes:
        dtype: of all of them.
        start: first byte.
        stop: byte after the last.
        names: the tensors that they belong to.
    """

    dtype: torch.dtype
    start: int
    stop: int
    names: tuple[str, ...]

    def values(self, data: Bytes) -> Tensor:
        """The values in the bytes of the range: 1-D, a view."""
        count = (self.stop - self.start) // self.dtype.itemsize
        return torch.frombuffer(data, dtype=self.dtype, count=count, offset=self.start)


@dataclass(frozen=True)
class Layout:
    """The layout of a state's file; equal for states of the same names, dtypes and shapes.

    Attributes:
        header: the file up to the first tensor.
        entries: the tensors in their order.
    """

    header: bytes
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> Layout:
        """The layout for tensors of these dtypes and shapes, by name.

        Raises:
            ModelError: an unsupported dtype or shape, an invalid name, too many tensors or too long names.
        """
        _require_storable(kinds)
        header, offset, sizes = {}, 0, []
        ordered = sorted(kinds.items(), key=lambda item: (-item[1][0].itemsize, item[0]))  # keeps tensors aligned
        for name, (dtype, shape) in ordered:
            end = offset + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
            sizes.append((offset, end))
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > MAX_HEADER_BYTES:
            raise ModelError(
                f"the state's header has {len(text)} bytes, at most {MAX_HEADER_BYTES} are allowed: shorten the names"
            )
        first = 8 + len(text)
        entries = tuple(
            Entry(name, dtype, shape, first + start, first + stop)
            for (name, (dtype, shape)), (start, stop) in zip(ordered, sizes, strict=True)
        )
        return cls(len(text).to_bytes(8, "little") + text, entries)

    @classmethod
    def of_state(cls, state: ModelState) -> Layout:
        """The layout of a state's file.

        Raises:
            ModelError: it cannot be stored; see `of`.
        """
        return cls.of({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()})

    @classmethod
    def read(cls, file: Bytes) -> Layout:
        """The layout of foreign bytes.

        Raises:
            ModelError: they are no state's file in the canonical layout.
        """
        layout = cls.of_header(file[: 8 + int.from_bytes(file[:8], "little")])
        if layout.size != len(file):
            raise ModelError(f"{len(file)} bytes are not laid out as a state's file: use the output of `pack`")
        for entry in layout.entries:
            if entry.dtype is torch.bool and entry.stop > entry.start:
                require_bools(torch.frombuffer(file, dtype=torch.uint8)[entry.start : entry.stop], entry.name)
        return layout

    @classmethod
    def of_header(cls, header: Bytes) -> Layout:
        """The layout that foreign bytes describe, which are the header of a state's file and nothing else.

        Raises:
            ModelError: they are no header in the canonical layout.
        """
        if len(header) > 8 + MAX_HEADER_BYTES:
            raise ModelError(f"the header has more than {MAX_HEADER_BYTES} bytes: expected a safetensors file")
        layout = cls.of(_kinds(bytes(header[8:])))
        if layout.header != header:
            raise ModelError(f"{len(header)} bytes are not the header of a state's file: use the output of `pack`")
        return layout

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.entries[-1].stop if self.entries else len(self.header)

    def views(self, file: Bytes) -> dict[str, Tensor]:
        """The state in the bytes of a file of this layout, sorted by name: views, never to be written to."""
        return {entry.name: _view(file, entry) for entry in sorted(self.entries, key=lambda each: each.name)}

    def segments(self, start: int, stop: int) -> list[Segment]:
        """The values in bytes `start` to `stop` of the file, those of one dtype together; none is cut."""
        parts: list[Segment] = []
        for entry in self.entries[bisect_right(self._stops, start) :]:
            if entry.start >= stop:
                break
            first, last = max(entry.start, start) - start, min(entry.stop, stop) - start
            if first == last:
                continue
            if parts and parts[-1].dtype is entry.dtype and parts[-1].stop == first:
                parts[-1] = Segment(entry.dtype, parts[-1].start, last, (*parts[-1].names, entry.name))
            else:
                parts.append(Segment(entry.dtype, first, last, (entry.name,)))
        return parts

    @cached_property
    def _stops(self) -> Sequence[int]:
        return [entry.stop for entry in self.entries]


class StateFile:
    """The file of a state whose tensors stay where they are.

    Args:
        state: contiguous CPU tensors are not copied: never write to them again.

    Raises:
        ModelError: it cannot be stored; see `Layout.of`.
    """

    def __init__(self, state: ModelState) -> None:
        self.layout = Layout.of_state(state)
        self._parts = [memoryview(self.layout.header), *(_raw(state[entry.name]) for entry in self.layout.entries)]
        self._starts = [0, *(entry.start for entry in self.layout.entries)]

    def read(self, offset: int, count: int) -> Bytes:
        """The `count` >= 1 bytes from `offset` on; a copy only where they are of several tensors."""
        pieces: list[memoryview] = []
        for index in range(bisect_right(self._starts, offset) - 1, len(self._parts)):
            within = max(0, offset - self._starts[index])
            pieces.append(self._parts[index][within : within + count])
            count -= len(pieces[-1])
            if not count:
                break
        full = [piece for piece in pieces if len(piece)]
        return full[0] if len(full) == 1 else b"".join(full)

    def chunks(self) -> Iterator[Bytes]:
        """The file, chunk by chunk."""
        for offset in range(0, self.layout.size, CHUNK):
            yield self.read(offset, min(CHUNK, self.layout.size - offset))

    def tree(self) -> HashTree:
        """Its hash tree."""
        return HashTree.of(self.chunks())


def require_bools(values: Tensor, name: str) -> None:
    """Checks that all bytes (n,), n >= 1, of bools are 0 or 1.

    Raises:
        ModelError: one is not; names the tensor.
    """
    if values.max() > 1:
        raise ModelError(f"tensor {short(name)} has a bool that is neither 0 nor 1: use the output of `pack`")


def require_valid_name(name: str) -> None:
    """Checks the name of a tensor.

    Raises:
        ModelError: it cannot be stored.
    """
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable() or name == "__metadata__":
        raise ModelError(f"invalid tensor name {short(name)}: expected 1 to {MAX_NAME_LENGTH} printable characters")


def flat(tensor: Tensor) -> Tensor:
    """A detached 1-D view of a tensor in row-major order (a copy where its strides demand one), on the CPU."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)


def short(name: str) -> str:
    """A name as messages show it."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _raw(tensor: Tensor) -> memoryview:
    """The row-major bytes of a tensor; a contiguous CPU tensor is not copied."""
    return flat(tensor).view(torch.uint8).numpy().data


def _view(file: Bytes, entry: Entry) -> Tensor:
    if entry.start == entry.stop:
        return torch.empty(entry.shape, dtype=entry.dtype)
    count = (entry.stop - entry.start) // entry.dtype.itemsize
    return torch.frombuffer(file, dtype=entry.dtype, count=count, offset=entry.start).reshape(entry.shape)


def _kinds(text: bytes) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """What the header of foreign bytes says of every tensor."""
    try:
        header: Any = json.loads(text)
        return {str(name): (DTYPES[part["dtype"]], _shape(part["shape"])) for name, part in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"the header is not one of a state's file ({type(error).__name__}): use `pack`") from None


def _shape(lengths: Any) -> tuple[int, ...]:
    shape = tuple(lengths)
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError
    return shape


def _require_storable(kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    if len(kinds) > MAX_TENSORS:
        raise ModelError(f"a state of {len(kinds)} tensors: at most {MAX_TENSORS} are allowed")
    for name, (dtype, shape) in kinds.items():
        if dtype not in _NAMES or len(shape) > MAX_DIMENSIONS:
            kind = f"{str(dtype).removeprefix('torch.')}{list(shape)}"
            raise ModelError(
                f"tensor {short(name)} is {kind}; expected one of {', '.join(DTYPES)} in at most "
                f"{MAX_DIMENSIONS} dimensions"
            )
        if math.prod(length or 1 for length in shape) >= 1 << 62:
            raise ModelError(f"tensor {short(name)} of shape {list(shape)} is too large, or empty with too large sizes")
        require_valid_name(name)
