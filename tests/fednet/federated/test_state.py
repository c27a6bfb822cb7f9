"""A state is its bytes: no order or stride changes its digest, any bit of it does; bytes are never trusted."""

from __future__ import annotations

import json
import string
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated import state as states
from fednet.federated import state_file
from fednet.federated.hash_tree import CHUNK, HashTree
from fednet.federated.state import (
    detached_copy,
    digest,
    model_tensors,
    optimiser_slots,
    pack,
    require_finite,
    require_like,
    size,
    unpack,
    with_slots,
)
from fednet.federated.state_file import DTYPES

Draw = Callable[..., dict[str, Tensor]]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit, NaN and signed zeros included."""
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype
        and one[key].shape == other[key].shape
        and bytes(raw(one[key])) == bytes(raw(other[key]))
        for key in one
    )


def raw(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def test_the_digest_is_the_root_of_the_tree_over_what_is_packed() -> None:
    state = {"b": torch.randn(300_000), "a": torch.tensor(7, dtype=torch.int16)}
    packed = pack(state)
    assert digest(state) == HashTree.of([packed[:CHUNK], packed[CHUNK:]]).root
    assert len(packed) > CHUNK


def test_the_digest_knows_neither_order_nor_strides_nor_lazy_conjugates(state: Draw) -> None:
    whole = state(0)
    backwards = dict(reversed(whole.items()))
    strided = {
        key: torch.stack([value, value], -1).select(-1, 0) if value.element_size() > 1 else value
        for key, value in whole.items()
    }
    strided["float32.2"] = whole["float32.2"].t().contiguous().t()
    lazy = dict(whole) | {"complex64.2": whole["complex64.2"].conj().resolve_conj().conj()}
    assert not strided["float32.1"].is_contiguous()
    assert lazy["complex64.2"].is_conj()
    assert {digest(whole), digest(backwards), digest(strided), digest(lazy), digest(detached_copy(strided))} == {
        digest(whole)
    }


def test_any_changed_bit_changes_the_digest() -> None:
    tensor = torch.tensor([1.0, -0.0, float("nan")])
    found = {digest({"w": tensor})}
    for bit in range(96):
        turned = tensor.clone()
        turned.view(torch.uint8)[bit // 8] ^= 1 << (bit % 8)
        found.add(digest({"w": turned}))
    assert len(found) == 97


@pytest.mark.parametrize(
    "other",
    [
        {"v": torch.zeros(4)},
        {"w": torch.zeros(4, dtype=torch.int32)},
        {"w": torch.zeros(2, 2)},
        {"w": torch.zeros(4, 1)},
        {"w": torch.zeros(2, dtype=torch.float64)},
        {"w": torch.zeros(3)},
        {"w": torch.zeros(4), "x": torch.zeros(0)},
        {"w": torch.zeros(3), "x": torch.zeros(1)},
        {},
    ],
)
def test_another_name_dtype_or_shape_changes_the_digest(other: dict[str, Tensor]) -> None:
    assert digest(other) != digest({"w": torch.zeros(4)})


def test_packing_and_unpacking_is_the_identity(state: Draw) -> None:
    whole = state(1)
    packed = pack(whole)
    assert same(unpack(packed), whole)
    assert same(unpack(memoryview(bytearray(packed))), whole)
    assert pack(unpack(packed)) == pack(dict(reversed(whole.items()))) == packed
    assert unpack(pack({})) == {}


def test_what_is_packed_is_a_safetensors_file(state: Draw) -> None:
    whole = state(2)
    assert same(safetensors.torch.load(pack(whole)), whole)
    assert same(unpack(safetensors.torch.save(whole, {"format": "pt"})), whole)


def test_every_packed_tensor_is_aligned(state: Draw) -> None:
    packed = pack(state(2))
    length = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + length])
    assert length % 8 == 0
    assert all(entry["data_offsets"][0] % DTYPES[entry["dtype"]].itemsize == 0 for entry in header.values())


def test_unpacked_tensors_own_their_memory() -> None:
    buffer = bytearray(pack({"w": torch.ones(3)}))
    state = unpack(memoryview(buffer))
    buffer[-12:] = bytes(12)
    state["w"].add_(1)
    assert state["w"].tolist() == [2, 2, 2]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_model_error(content: bytes) -> None:
    with pytest.raises(ModelError):
        unpack(content)


NUMBERS = st.integers(-2, 20) | st.sampled_from([2**31, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30])
HEADERS = st.dictionaries(
    st.text(max_size=5) | st.just("__metadata__"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from([*DTYPES, "F4", "U64", "F8_E8M0", "", "f32"]),
            "shape": st.lists(NUMBERS, max_size=4),
            "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
        }
    )
    | st.none()
    | st.dictionaries(st.text(max_size=2), st.text(max_size=2)),
    max_size=3,
)


@settings(max_examples=500, deadline=None)
@given(HEADERS, st.binary(max_size=30), st.integers(-2, 2))
def test_a_hostile_header_is_a_model_error_or_a_state(header: dict[str, object], content: bytes, lie: int) -> None:
    text = json.dumps(header).encode()
    try:
        state = unpack(max(0, len(text) + lie).to_bytes(8, "little") + text + content)
    except ModelError:
        return
    assert same(unpack(pack(state)), state)
    assert len(digest(state)) == 64


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 250), st.integers(0, 255))
def test_a_turned_byte_is_a_model_error_or_a_state(at: int, value: int) -> None:
    content = bytearray(pack({"w": torch.ones(2, 3), "n": torch.tensor(3), "b": torch.tensor([True, False])}))
    content[at % len(content)] = value
    try:
        state = unpack(bytes(content))
    except ModelError:
        return
    assert same(unpack(pack(state)), state)


@pytest.mark.parametrize("length", [0, 7, 8, 30, -1])
def test_a_cut_file_is_a_model_error(length: int) -> None:
    with pytest.raises(ModelError, match="not a safetensors file"):
        unpack(pack({"w": torch.ones(5)})[:length])


def test_too_much_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="header has more than"):
        unpack((2**40).to_bytes(8, "little") + bytes(100))
    many = {f"t{index}": torch.zeros(1) for index in range(4)}
    packed = pack(many)
    monkeypatch.setattr(states, "MAX_TENSORS", 3)
    monkeypatch.setattr(state_file, "MAX_TENSORS", 3)
    with pytest.raises(ModelError, match="4 tensors"):
        unpack(packed)
    with pytest.raises(ModelError, match="4 tensors"):
        pack(many)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\ud800", "x" * 501, "__metadata__"])
def test_strange_names_are_refused(name: str) -> None:
    for act in (pack, digest):
        with pytest.raises(ModelError, match="name"):
            act({name: torch.zeros(1)})
    if name.isascii() and name != "__metadata__":
        text = json.dumps({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        with pytest.raises(ModelError, match="name"):
            unpack(len(text).to_bytes(8, "little") + text + b"\0")


def test_a_dtype_that_a_file_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match="complex128"):
        digest({"w": torch.zeros(1, dtype=torch.complex128)})


def test_absurd_emptiness_other_dtypes_and_false_bools_are_refused() -> None:
    for entry, content in (
        ({"dtype": "F32", "shape": [0, 2**61, 2**61], "data_offsets": [0, 0]}, b""),
        ({"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}, b""),
        ({"dtype": "U64", "shape": [1], "data_offsets": [0, 8]}, bytes(8)),
        ({"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}, b"\x02"),
    ):
        text = json.dumps({"w": entry}).encode()
        with pytest.raises(ModelError):
            unpack(len(text).to_bytes(8, "little") + text + content)


def test_a_frozen_state_is_a_copy_of_its_own() -> None:
    shared = torch.nn.Parameter(torch.ones(2, 3))
    live = {"w": shared, "t": shared.t(), "x": torch.ones(1).expand(4)}
    still = detached_copy(live)
    with torch.no_grad():
        shared.zero_()
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in still.values())
    still["w"][0] = 5
    still["x"][0] = 5
    assert still["t"].tolist() == [[1, 1]] * 3
    assert still["x"].tolist() == [5, 1, 1, 1]


@pytest.mark.parametrize(
    ("given_state", "says"),
    [
        ({"w": torch.zeros(2), "n": torch.zeros((), dtype=torch.int64), "x": torch.zeros(1)}, "no tensor 'x'"),
        ({"w": torch.zeros(2)}, "'n' is missing"),
        ({"w": torch.zeros(3), "n": torch.zeros((), dtype=torch.int64)}, r"'w' is float32\[3\], expected float32\[2\]"),
        ({"w": torch.zeros(2), "n": torch.zeros(())}, r"'n' is float32\[\], expected int64\[\]"),
    ],
)
def test_a_state_that_does_not_fit_is_named(given_state: dict[str, Tensor], says: str) -> None:
    base = {"w": torch.zeros(2), "n": torch.zeros((), dtype=torch.int64)}
    with pytest.raises(ModelError, match=f"^a1: .*{says}"):
        require_like(given_state, base, "a1")
    require_like(base, base, "a1")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_one_value_that_is_not_finite_is_found(dtype: torch.dtype, bad: float) -> None:
    for at in (0, 1, 4999):
        values = torch.ones(5000)
        values[at] = bad
        with pytest.raises(ModelError, match=r"^a1: tensor 'w' has 1 of 5000 values"):
            require_finite({"v": torch.ones(3), "w": values.to(dtype)}, "a1")
    require_finite({"w": torch.full((3,), torch.finfo(dtype).max, dtype=dtype), "n": torch.tensor([1])}, "a1")


def test_both_parts_of_a_complex_number_are_looked_at() -> None:
    for bad in (complex(float("nan"), 0), complex(0, float("inf"))):
        with pytest.raises(ModelError):
            require_finite({"c": torch.tensor([1, bad], dtype=torch.complex64)}, "a1")


def test_the_servers_slots_part_and_join() -> None:
    model, kept = {"w": torch.ones(2), "servers": torch.ones(1)}, {"velocity/w": torch.zeros(2)}
    whole = with_slots(model, kept)
    assert same(model_tensors(whole), model)
    assert same(optimiser_slots(whole), kept)
    assert size(whole) == 20
    assert set(whole) == {"w", "servers", "server/velocity/w"}
    with pytest.raises(ModelError, match="server/"):
        with_slots(whole, {})


@given(st.text(string.ascii_lowercase + "/.", min_size=1, max_size=12))
def test_a_state_is_its_model_and_its_slots(name: str) -> None:
    state = {name: torch.ones(1), "server/" + name: torch.zeros(1)}
    assert same(with_slots(model_tensors(state), optimiser_slots(state)), state)
