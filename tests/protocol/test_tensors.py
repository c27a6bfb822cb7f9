"""Every dtype, shape and layout, the bounds of the lossy encodings, and frames that are not what is said of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protocol.errors import EncodingError, WireError
from protocol.frames import Buffer
from protocol.tensors import BLOCK, DTYPES, SMALL, Descriptor, Encoding, describe, pack, unpack

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

NAMES = list(DTYPES)
SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (2, 3, 4, 5), (0,), (3, 0, 2), (40, 300)]
LOSSY: list[Encoding] = ["bf16", "fp16", "int8"]
HALVES = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def noise(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A tensor of any dtype, every bit of it random (a bool is a random bool)."""
    dtype, dice = DTYPES[name], torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    if dtype is torch.bool:
        return torch.randint(0, 2, shape, generator=dice).bool()
    return torch.randint(0, 256, (count * dtype.itemsize,), generator=dice, dtype=torch.uint8).view(dtype).view(shape)


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype is other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))


def through(tensor: Tensor, encoding: Encoding = "raw", frame: Callable[[memoryview], Buffer] = bytearray) -> Tensor:
    """A tensor as it arrives."""
    descriptor, buffer = pack(tensor, encoding)
    assert len(buffer) == descriptor.frame_bytes
    dtype, shape, coding = descriptor
    return unpack(describe(dtype, shape, coding, max_dims=8), frame(buffer))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_and_shape_arrives_bit_for_bit(name: str, shape: tuple[int, ...]) -> None:
    tensor = noise(name, shape)
    for frame in (bytearray, bytes, memoryview):
        assert same_bits(through(tensor, frame=frame), tensor)


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_arrives(name: str) -> None:
    tensor = noise(name, (4, 6, 8))
    for view in (tensor.transpose(0, 2), tensor[1:3, ::2, 1], tensor[2], tensor[:1].expand(3, 6, 8), tensor[3, 5, 7]):
        assert same_bits(through(view), view)


def test_the_table_holds_every_dtype_with_whole_bytes() -> None:
    packed = r"q?u?int\d+x\d+|qu?int\d+|u?int[1-7]|bits\d+(x\d+)?|float4_e2m1fn_x2|bcomplex32"
    known = {str(each).removeprefix("torch.") for each in vars(torch).values() if isinstance(each, torch.dtype)}
    assert {name for name in known if not re.fullmatch(packed, name)} == DTYPES.keys()
    assert all(str(dtype) == f"torch.{name}" for name, dtype in DTYPES.items())


def test_lazy_views_and_gradients_are_resolved() -> None:
    tensor = torch.randn(5, dtype=torch.complex64, requires_grad=True)
    assert same_bits(through(tensor.conj()), tensor.detach().conj().resolve_conj())
    assert same_bits(through(tensor.conj().imag), tensor.detach().conj().imag.resolve_neg())
    assert not through(tensor).requires_grad
    assert same_bits(through(torch.nn.Parameter(torch.ones(3))), torch.ones(3))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, 3).to_sparse(),
        torch.ones(3, device="meta"),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        torch.zeros(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    ],
    ids=["sparse", "meta", "nested", "two values a byte"],
)
def test_what_has_no_plain_storage_is_refused(tensor: Tensor) -> None:
    with pytest.raises(EncodingError, match="expected a dense tensor"):
        pack(tensor)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_tensor_on_a_device_arrives_on_the_cpu() -> None:
    tensor = torch.randn(6, 5, device="cuda").T
    assert same_bits(through(tensor), tensor.cpu().contiguous())


def test_raw_bytes_are_the_tensors_own_and_cannot_be_written_through() -> None:
    tensor = torch.zeros(4)
    _, frame = pack(tensor)
    tensor[0] = 1.0
    assert frame.readonly
    assert bytes(frame[:4]) == b"\x00\x00\x80\x3f"


def test_a_received_tensor_lies_in_its_frame_and_keeps_it() -> None:
    descriptor, sent = pack(torch.zeros(SMALL))
    frame = bytearray(sent)
    tensor = unpack(descriptor, frame)
    frame[:4] = b"\x00\x00\x80\x3f"
    del frame
    assert tensor[0] == 1.0


@pytest.mark.parametrize("count", [SMALL // 4, SMALL])
def test_small_and_read_only_frames_are_copied(count: int) -> None:
    descriptor, sent = pack(torch.zeros(count))
    frame = bytearray(sent)
    tensor = unpack(descriptor, memoryview(frame).toreadonly() if count == SMALL else frame)
    frame[:4] = b"\x00\x00\x80\x3f"
    assert tensor[0] == 0.0
    tensor[1] = 5.0  # ours alone: may be written to


@pytest.mark.parametrize("name", ["int16", "float32", "float64", "complex128", "bool", "float8_e5m2"])
def test_unaligned_frames_are_read(name: str) -> None:
    tensor = noise(name, (3000,))
    descriptor, sent = pack(tensor)
    for offset in range(1, 9):
        frame = memoryview(bytearray(offset) + bytearray(sent))[offset:]
        assert same_bits(unpack(descriptor, frame), tensor)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if DTYPES[name] not in {*HALVES, torch.float32, torch.float64}]
)
@pytest.mark.parametrize("encoding", LOSSY)
def test_what_is_not_real_floating_point_travels_raw(name: str, encoding: Encoding) -> None:
    tensor = noise(name, (70,))
    assert pack(tensor, encoding)[0].encoding == "raw"
    assert same_bits(through(tensor, encoding), tensor)


@pytest.mark.parametrize("encoding", LOSSY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lossy_encodings_keep_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...], encoding: Encoding) -> None:
    tensor = torch.linspace(-3, 3, torch.Size(shape).numel()).to(dtype).view(shape)
    arrived = through(tensor, encoding)
    assert (arrived.dtype, arrived.shape) == (dtype, tensor.shape)
    assert torch.allclose(arrived.double(), tensor.double(), atol=3 * 2**-7, rtol=0)


magnitudes = st.floats(-30, 30).map(lambda power: 2.0**power)
signed = st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), magnitudes).map(lambda pair: pair[0] * pair[1])


@given(values=st.lists(signed, min_size=1, max_size=200), encoding=st.sampled_from(["bf16", "fp16"]))
def test_halves_round_within_their_precision(values: list[float], encoding: Encoding) -> None:
    tensor = torch.tensor(values).clamp(-6e4, 6e4)
    bound = {"bf16": 2.0**-8, "fp16": 2.0**-11}[encoding]
    error = (through(tensor, encoding) - tensor).abs()
    assert bool((error <= tensor.abs() * bound + 2.0**-24).all())


@pytest.mark.parametrize(("encoding", "half"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_halves_keep_what_is_not_finite_and_refuse_to_make_it(encoding: Encoding, half: torch.dtype) -> None:
    strange = torch.tensor([float("inf"), float("-inf"), float("nan"), torch.finfo(half).max])
    assert torch.equal(through(strange, encoding).nan_to_num(7.0), strange.nan_to_num(7.0))
    for values in ([3.4e38], [-3.4e38, 0.0], [3.4e38, float("inf")], [3.4e38, float("nan")]):
        with pytest.raises(EncodingError, match="overflows"):
            pack(torch.tensor(values, dtype=torch.float64) * 1.001, encoding)


def int8_bound(tensor: Tensor) -> Tensor:
    """The documented bound on the error of each value, in double precision."""
    flat = tensor.double().view(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    absmax = padded.abs().amax(1, keepdim=True).expand_as(padded).reshape(-1)[: len(flat)]
    rounding = HALVES.get(tensor.dtype, 0.0)
    return absmax / 254 * (1 + 2.0**-12) + 2.0**-119 + absmax * rounding


any_float = st.floats(-(2.0**126), 2.0**126) | signed | st.sampled_from([0.0, -0.0, 1e-45, 1e-38, -1e-300, 1.7e38])


@settings(max_examples=300)
@given(values=st.lists(any_float, min_size=1, max_size=200), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_int8_stays_within_its_bound(values: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(values, dtype=torch.float64).to(dtype)
    arrived = through(tensor, "int8")
    assert bool(((arrived.double() - tensor.double()).abs() <= int8_bound(tensor)).all())


@given(values=st.lists(signed, min_size=1, max_size=200), half=st.sampled_from(list(HALVES)))
def test_int8_of_halves_stays_within_its_bound(values: list[float], half: torch.dtype) -> None:
    tensor = torch.tensor(values).clamp(-65504, 65504).to(half)
    arrived = through(tensor, "int8")
    assert bool(((arrived.double() - tensor.double()).abs() <= int8_bound(tensor)).all())


def test_int8_is_exact_at_zero_and_at_the_largest_of_each_block() -> None:
    tensor = torch.cat([torch.zeros(BLOCK), torch.full((BLOCK,), 65504.0), torch.tensor([-3.0, 0.0])])
    for dtype in (torch.float16, torch.float32):
        assert torch.equal(through(tensor.to(dtype), "int8"), tensor.to(dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 2.0**127, -3e38])
def test_int8_refuses_what_it_cannot_hold(value: float) -> None:
    tensor = torch.zeros(200)
    tensor[150] = value
    with pytest.raises(EncodingError, match="int8 holds finite values"):
        pack(tensor, "int8")


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 3e38])
def test_an_int8_frame_of_anything_but_numbers_is_refused(scale: float) -> None:
    frame = bytes(pack(torch.tensor([scale]))[1]) + b"\x7f"
    with pytest.raises(WireError, match="finite"):
        unpack(Descriptor("float32", (1,), "int8"), frame)


@pytest.mark.parametrize("encoding", ["raw", *LOSSY])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 5000])
def test_the_size_of_a_frame_is_checked(count: int, encoding: Encoding) -> None:
    descriptor, frame = pack(torch.zeros(count), encoding)
    for wrong in (b"", frame[:-1], bytes(frame) + b"\0"):
        with pytest.raises(WireError, match="wrong size"):
            unpack(descriptor, wrong)


@pytest.mark.parametrize("byte", [2, 128, 255])
def test_a_bool_is_zero_or_one(byte: int) -> None:
    with pytest.raises(WireError, match="neither 0 nor 1"):
        unpack(Descriptor("bool", (3,), "raw"), bytes([0, byte, 1]))


@pytest.mark.parametrize(
    ("dtype", "shape", "encoding"),
    [
        ("float31", (1,), "raw"),
        (b"float32", (1,), "raw"),
        (None, (1,), "raw"),
        (["float32"], (1,), "raw"),
        ("float32", (1,), "gzip"),
        ("float32", (1,), None),
        ("float32", (1,), {}),
        ("int64", (1,), "int8"),
        ("bool", (1,), "bf16"),
        ("complex64", (1,), "fp16"),
        ("float32", 1, "raw"),
        ("float32", None, "raw"),
        ("float32", "12", "raw"),
        ("float32", [1], "raw"),
        ("float32", (1.0,), "raw"),
        ("float32", (True,), "raw"),
        ("float32", ((1,),), "raw"),
        ("float32", (-1,), "raw"),
        ("float32", (-1, -1), "raw"),
        ("float32", (1,) * 9, "raw"),
        ("float32", (2**61,), "raw"),
        ("float32", (2**31, 2**31, 2**31), "raw"),
        ("float32", (0, 2**64 - 1), "raw"),
        ("float32", (0,) + (2**62,) * 7, "raw"),
    ],
)
def test_an_impossible_description_is_refused(dtype: Any, shape: Any, encoding: Any) -> None:
    with pytest.raises(WireError):
        describe(dtype, shape, encoding, max_dims=8)


def test_an_empty_tensor_may_have_long_sides() -> None:
    assert unpack(describe("uint8", (2**31, 0, 2**31), "raw", max_dims=8), b"").shape == (2**31, 0, 2**31)
