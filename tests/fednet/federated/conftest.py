"""States of every dtype and rank, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

SHAPES = ((), (7,), (3, 5), (2, 3, 4), (2, 1, 3, 3), (0, 4))
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
OTHERS = (torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def drawn_tensor(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype is torch.complex64:
        return torch.randn(shape, dtype=dtype, generator=generator)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        return torch.randint(0, 100, shape, generator=generator).to(dtype)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def drawn_state(seed: int, large: int = 0) -> dict[str, Tensor]:
    """A tensor of every dtype and rank, and one of `large` float32 values, longer than a block."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        f"{str(dtype).removeprefix('torch.')}.{len(shape)}{'e' if 0 in shape else ''}": drawn_tensor(
            shape, dtype, generator
        )
        for dtype in FLOATS + OTHERS
        for shape in SHAPES
    }
    if large:
        state["large"] = drawn_tensor((large,), torch.float32, generator)
    return state


@pytest.fixture
def state() -> Callable[..., dict[str, Tensor]]:
    return drawn_state
