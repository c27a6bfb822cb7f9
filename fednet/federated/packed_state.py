"""A state in its file, in memory or on the disk: the bytes, their hash tree, and views of them as its tensors.

How a state lies in a file is `fednet.federated.state_file`'s, where the bytes are `state_storage`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fednet.api import ModelState
from fednet.federated.hash_tree import CHUNK, HashTree, leaf
from fednet.federated.state_file import Layout, StateFile
from fednet.federated.state_storage import StateStorage, WritableStorage


@dataclass(frozen=True)
class PackedState:
    """A state that lies in its file: the one copy of it that there is.

    Attributes:
        tree: the file's hash tree; its root is the state's digest.
        layout: of the file.
        storage: where its bytes are, never to be written to again.
        state: views of them.
    """

    tree: HashTree
    layout: Layout
    storage: StateStorage
    state: ModelState

    @classmethod
    def of(cls, state: ModelState, allocate: Callable[[int], WritableStorage] = WritableStorage) -> PackedState:
        """A state, copied into a file of its own, for which `allocate` makes room.

        Raises:
            ModelError: it cannot be stored; see `Layout.of`.
            OSError: there is no room.
        """
        file = StateFile(state)
        storage, leaves = allocate(file.layout.size), []
        for index, chunk in enumerate(file.chunks()):
            storage.write(index * CHUNK, chunk)
            leaves.append(leaf(chunk))
        return cls.laid_out(file.layout, storage, HashTree(file.layout.size, b"".join(leaves)))

    @classmethod
    def laid_out(cls, layout: Layout, storage: StateStorage, tree: HashTree | None = None) -> PackedState:
        """The state in bytes that are known to be of this layout; their hash tree, where it is known."""
        file = storage.data
        tree = tree or HashTree.of(file[offset : offset + CHUNK] for offset in range(0, len(file), CHUNK))
        return cls(tree, layout, storage, layout.views(file))

    @classmethod
    def read(cls, storage: StateStorage, tree: HashTree | None = None) -> PackedState:
        """The state in foreign bytes.

        Args:
            storage: the bytes, in the canonical layout.
            tree: their hash tree, where it is known.

        Raises:
            ModelError: see `Layout.read`.
        """
        return cls.laid_out(Layout.read(storage.data), storage, tree)

    @property
    def file(self) -> memoryview:
        """The bytes of its file."""
        return self.storage.data

    def bytes_at(self, offset: int, count: int) -> memoryview:
        """The `count` bytes of the file from `offset` on."""
        return self.file[offset : offset + count]
