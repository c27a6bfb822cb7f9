"""One layout for equal states, chunks that end between elements, views instead of copies, and no other bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated.state import pack
from fednet.federated.state_file import Layout, StateFile

Draw = Callable[..., dict[str, Tensor]]


def test_any_range_is_that_of_the_file(state: Draw) -> None:
    whole = state(3)
    file, packed = StateFile(whole), pack(whole)
    assert file.layout.size == len(packed)
    for offset in range(0, len(packed), 7):
        for count in (1, 8, 33, 500):
            assert file.read(offset, min(count, len(packed) - offset)) == packed[offset : offset + count]


def test_a_range_of_one_tensor_is_a_view() -> None:
    tensor = torch.zeros(100)
    file = StateFile({"w": tensor, "b": torch.zeros(3)})
    view = file.read(file.layout.entries[1].start + 8, 40)
    tensor.view(torch.uint8)[8] = 7  # forbidden, and visible for just that reason
    assert view[0] == 7


@pytest.mark.parametrize("step", [8, 16, 48, 400])
def test_segments_cover_every_value_once_and_cut_none(state: Draw, step: int) -> None:
    whole = state(4)
    file = StateFile(whole)
    layout, packed = file.layout, pack(whole)
    found: dict[torch.dtype, list[Tensor]] = {}
    for start in range(0, len(packed), step):
        part = packed[start : start + step]
        for segment in layout.segments(start, start + len(part)):
            assert segment.names
            found.setdefault(segment.dtype, []).append(segment.values(part))
    for dtype, values in found.items():
        expected = [whole[entry.name].reshape(-1) for entry in layout.entries if entry.dtype is dtype]
        assert torch.cat(values).view(torch.uint8).equal(torch.cat(expected).contiguous().view(torch.uint8))
    assert found.keys() == {tensor.dtype for tensor in whole.values() if tensor.numel()}


def test_neighbours_of_one_dtype_are_one_segment() -> None:
    layout = Layout.of_state({"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1, dtype=torch.float64)})
    assert [each.names for each in layout.segments(0, layout.size)] == [("c",), ("a", "b")]


@given(st.binary(max_size=60), st.integers(0, 3))
def test_arbitrary_bytes_and_headers_are_a_model_error(content: bytes, length: int) -> None:
    for file in (content, len(content).to_bytes(8, "little") + content + bytes(length)):
        if file != pack({}):
            with pytest.raises(ModelError):
                Layout.read(file)


def test_a_header_alone_tells_the_layout() -> None:
    layout = Layout.of_state({"a": torch.zeros(2, 3), "b": torch.zeros(0, dtype=torch.int64)})
    assert Layout.of_header(layout.header) == layout


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b'{"w": 1}', b'{"w": {"dtype": "nn", "shape": [], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "float32", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [9223372036854775807, 9], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}',
    ],
)  # fmt: skip
def test_other_headers_are_refused(text: bytes) -> None:
    text += b" " * (-len(text) % 8)
    for header in (text, len(text).to_bytes(8, "little") + text, Layout.of({}).header + b" "):
        with pytest.raises(ModelError):
            Layout.of_header(header)
