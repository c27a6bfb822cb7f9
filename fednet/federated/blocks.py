"""Coordinate-wise arithmetic on several tensors, block by block in float64.

Every output value depends on the input values at the same coordinate only, by operations that IEEE 754 rounds in one
way. So the result has the same bits on any number of threads, in shards or as a whole. Blocks keep the float64
intermediates in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fednet.federated.state_file import flat

BLOCK = 32_000
"""Elements at a time: 250 KiB in float64, and fewer than the 32,768 that torch would share among threads."""

Formula = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""float64 blocks (n,) of every input, which it may overwrite -> blocks (n,) of every output."""


def coordinates(tensor: Tensor) -> Tensor:
    """The real coordinates of a tensor as a 1-D view; real and imaginary parts of a complex tensor alternate."""
    values = flat(tensor)
    return torch.view_as_real(values).reshape(-1) if values.is_complex() else values


def compute(formula: Formula, inputs: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Applies a coordinate-wise formula to tensors of one shape.

    Args:
        formula: computes one block at a time.
        inputs: tensors with the same number of real coordinates.
        like: for every output, a tensor with its shape and dtype.

    Returns:
        New tensors. Integers are rounded half to even and clamped to their range; a bool is value > 0.5.
    """
    results = [torch.empty_like(flat(tensor)) for tensor in like]
    compute_into(formula, inputs, results)
    return [result.reshape(tensor.shape) for result, tensor in zip(results, like, strict=True)]


def compute_into(formula: Formula, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """As `compute`, into tensors that there are: contiguous, on the CPU, with the same number of real coordinates."""
    sources = [coordinates(tensor) for tensor in inputs]
    targets = [coordinates(tensor) for tensor in outputs]
    space = torch.empty(
        len(sources), min(BLOCK, max((len(source) for source in sources), default=0)), dtype=torch.float64
    )
    for start in range(0, len(sources[0]), BLOCK):
        stop = min(start + BLOCK, len(sources[0]))
        blocks = [row[: stop - start].copy_(source[start:stop]) for row, source in zip(space, sources, strict=True)]
        for target, block in zip(targets, formula(blocks), strict=True):
            target[start:stop] = rounded(block, target.dtype)


def squared_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """||a - b||^2 over all coordinates, in float64; of finite values it is finite or inf, never NaN."""
    parts: list[float] = []

    def collect(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        difference = blocks[0].sub_(blocks[1])
        parts.append(float(difference.mul_(difference).sum()))
        return ()

    for one, other in zip(a, b, strict=True):
        compute(collect, [one, other], [])
    return sum(parts)


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 values, maybe overwritten, in another dtype: integers half to even and clamped, a bool is value > 0.5."""
    if dtype.is_floating_point:
        return values.to(dtype)
    if dtype is torch.bool:
        return values > 0.5
    limits = torch.iinfo(dtype)
    largest = float(limits.max) if dtype.itemsize < 8 else math.nextafter(2.0**63, 0.0)
    return values.round_().clamp_(float(limits.min), largest).to(dtype)
