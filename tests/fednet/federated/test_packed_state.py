"""A packed state is its file: views of it, its digest, and foreign bytes in no other layout."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated.hash_tree import HashTree
from fednet.federated.packed_state import PackedState
from fednet.federated.state import digest, pack
from fednet.federated.state_file import DTYPES
from fednet.federated.state_storage import StateStorage

Draw = Callable[..., dict[str, Tensor]]


def test_a_packed_state_is_views_of_its_file(state: Draw) -> None:
    whole = state(5)
    packed = PackedState.of(whole)
    assert packed.tree.root == digest(whole) == digest(packed.state)
    assert bytes(packed.file) == pack(whole)
    assert packed.file.readonly
    assert bytes(packed.bytes_at(3, 5)) == pack(whole)[3:8]
    file = bytearray(pack(whole))
    read = PackedState.read(StateStorage(memoryview(file)))
    assert read.tree == packed.tree
    entry = next(each for each in read.layout.entries if each.dtype is torch.float32 and each.stop > each.start)
    file[entry.start : entry.start + 4] = b"\0\0\x80?"
    assert read.state[entry.name].reshape(-1)[0] == 1.0


def other_layouts() -> list[bytes]:
    """Valid safetensors files that are laid out otherwise."""
    one, two = {"dtype": "F32", "shape": [1]}, {"dtype": "F32", "shape": [2]}
    headers: list[dict[str, object]] = [
        {"b": {**two, "data_offsets": [4, 12]}, "a": {**one, "data_offsets": [0, 4]}},
        {"b": {**two, "data_offsets": [0, 8]}, "a": {**one, "data_offsets": [8, 12]}},
        {"a": {**one, "data_offsets": [0, 4]}, "b": {**two, "data_offsets": [4, 12]}, "__metadata__": {"x": "y"}},
    ]
    files = []
    for header in headers:
        text = json.dumps(header, separators=(",", ":")).encode()
        files.append(len(text).to_bytes(8, "little") + text + bytes(12))
    return files


@pytest.mark.parametrize("file", [*other_layouts(), b"", bytes(8), b"\xff" * 40, pack({"w": torch.ones(5)})[:-1]])
def test_bytes_in_another_layout_are_refused(file: bytes) -> None:
    with pytest.raises(ModelError):
        PackedState.read(StateStorage(memoryview(file)))


def test_a_false_bool_is_refused() -> None:
    file = bytearray(pack({"b": torch.tensor([True, False])}))
    file[-1] = 2
    with pytest.raises(ModelError, match="neither 0 nor 1"):
        PackedState.read(StateStorage(memoryview(file)))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 250), st.integers(0, 255))
def test_a_turned_byte_is_a_model_error_or_a_value(at: int, value: int) -> None:
    file = bytearray(pack({"w": torch.ones(2, 3), "n": torch.tensor(3), "b": torch.tensor([True, False])}))
    file[at % len(file)] = value
    try:
        packed = PackedState.read(StateStorage(memoryview(file)))
    except ModelError:
        return
    assert bytes(file) == pack(packed.state)
    assert packed.tree == HashTree.of([bytes(file)])


def test_every_dtype_is_stored() -> None:
    for dtype in DTYPES.values():
        whole = {"t": torch.ones(3).to(dtype)}
        assert digest(PackedState.of(whole).state) == digest(whole)
