"""The hash tree of a state's file: one hash for each chunk, and their hash, the root, which names the state.

With the leaves, whoever has checked them against the root checks every chunk by itself, as soon as it is there, from
whomever it came; and who has hashed the chunks one by one has hashed the whole. BLAKE3 (O'Connor et al. 2020) in keyed
mode, with one key for chunks and one for roots, so that neither passes for the other. Of the hashes that were measured
on one core, in GiB a second, BLAKE3's package does 3.5, SHA-256 1.4 and BLAKE2b 0.7. Knows nothing of what the bytes
mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from blake3 import blake3

CHUNK = 1 << 20
"""Bytes of a chunk; the last one may be shorter. A multiple of every dtype's element."""

LEAF = 32
"""Bytes of a leaf."""

MAX_SIZE = CHUNK // LEAF * CHUNK
"""Bytes of the largest file, 32 GiB: its leaves fit in one chunk."""

_LEAF_KEY = b"fednet hash tree, leaf of chunks"
_ROOT_KEY = b"fednet hash tree, root of leaves"


@dataclass(frozen=True)
class HashTree:
    """The hash tree of a file.

    Attributes:
        size: bytes of the file.
        leaves: (LEAF * number of chunks,) bytes, the hash of every chunk in order.
    """

    size: int
    leaves: bytes

    @classmethod
    def of(cls, chunks: Iterable[bytes | memoryview]) -> HashTree:
        """The tree of a file that is given as its chunks, all of them `CHUNK` bytes but the last."""
        leaves, size = [], 0
        for chunk in chunks:
            leaves.append(leaf(chunk))
            size += len(chunk)
        return cls(size, b"".join(leaves))

    @classmethod
    def confirmed(cls, root: str, size: int, leaves: bytes) -> HashTree | None:
        """The tree of a file of which only root and size are certain; None unless these are its leaves."""
        tree = cls(size, leaves)
        return tree if tree.root == root else None

    @cached_property
    def root(self) -> str:
        """64 lower-case hexadecimal digits: the name of the file."""
        return blake3(self.size.to_bytes(8, "little") + self.leaves, key=_ROOT_KEY).hexdigest()

    def matches(self, index: int, chunk: bytes | memoryview) -> bool:
        """Whether these are the bytes of the chunk with this index, from 0."""
        return leaf(chunk) == self.leaf(index)

    def leaf(self, index: int) -> bytes:
        """The hash of the chunk with this index."""
        return self.leaves[LEAF * index : LEAF * (index + 1)]


def leaf(chunk: bytes | memoryview) -> bytes:
    """The hash of a chunk: `LEAF` bytes."""
    return blake3(chunk, key=_LEAF_KEY).digest()


def chunk_count(size: int) -> int:
    """The number of chunks of a file of this size."""
    return -(-size // CHUNK)


def chunk_size(size: int, index: int) -> int:
    """Bytes of the chunk with this index, from 0, of a file of this size."""
    return min(CHUNK, size - index * CHUNK)
