"""Every bit, the order of the chunks and the size are in the root, and a chunk is checked by itself."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from fednet.federated import hash_tree
from fednet.federated.hash_tree import CHUNK, LEAF, MAX_SIZE, HashTree, chunk_count, chunk_size, leaf


def tree(data: bytes, size: int = 10) -> HashTree:
    return HashTree.of(data[offset : offset + size] for offset in range(0, len(data), size))


def test_the_root_is_what_the_protocol_says() -> None:
    leaves = [blake3(part, key=b"fednet hash tree, leaf of chunks").digest() for part in (b"0123456789", b"ab")]
    expected = blake3((12).to_bytes(8, "little") + b"".join(leaves), key=b"fednet hash tree, root of leaves")
    assert tree(b"0123456789ab").root == expected.hexdigest()
    assert tree(b"0123456789ab").leaves == b"".join(leaves)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 479))
def test_a_turned_bit_is_another_root_and_found_in_its_chunk(data: bytes, bit: int) -> None:
    true, turned = tree(data), bytearray(data)
    at = bit // 8 % len(data)
    turned[at] ^= 1 << bit % 8
    assert tree(bytes(turned)).root != true.root
    for index in range(len(true.leaves) // LEAF):
        part = slice(10 * index, 10 * index + 10)
        assert true.matches(index, data[part])
        assert true.matches(index, memoryview(turned)[part]) == (index != at // 10)


def test_size_order_and_kind_are_in_the_root() -> None:
    data = b"a" * 10 + b"b" * 10
    others = [data[10:] + data[:10], data[:10], data + b"c", tree(data).leaves, b""]
    assert len({tree(data).root, *(tree(other).root for other in others)}) == 6
    assert HashTree(21, tree(data).leaves).root != tree(data).root
    assert leaf(b"") != HashTree(0, b"").root[:LEAF].encode()


def test_leaves_are_believed_where_the_root_confirms_them_only() -> None:
    true = tree(b"0123456789ab")
    assert HashTree.confirmed(true.root, 12, true.leaves) == true
    turned = bytes([true.leaves[0] ^ 1]) + true.leaves[1:]
    for size, leaves in ((11, true.leaves), (12, b""), (12, turned), (12, true.leaves[LEAF:] + true.leaves[:LEAF])):
        assert HashTree.confirmed(true.root, size, leaves) is None


def test_a_chunk_beyond_the_end_never_matches() -> None:
    assert not tree(b"a" * 10).matches(1, b"")
    assert not tree(b"a" * 10).matches(7, b"a" * 10)


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, MAX_SIZE])
def test_chunks_cover_a_file(size: int) -> None:
    count = chunk_count(size)
    assert 1 <= chunk_size(size, count - 1) <= CHUNK
    assert (count - 1) * CHUNK + chunk_size(size, count - 1) == size


def test_the_leaves_of_the_largest_file_fit_in_a_chunk() -> None:
    assert chunk_count(MAX_SIZE) * LEAF <= hash_tree.CHUNK
