"""Blocks give what the whole would; distances are those of NumPy and never NaN."""

from __future__ import annotations

import math

import pytest
import torch

from fednet.federated.blocks import BLOCK, compute, coordinates, squared_distance


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_blocks_are_the_whole(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(length, generator=generator, dtype=torch.float64) for _ in range(2))
    before = a.clone(), b.clone()
    total, product = compute(lambda blocks: (blocks[0] + blocks[1], blocks[0].mul_(blocks[1])), [a, b], [a, b])
    assert torch.equal(total, before[0] + before[1])
    assert torch.equal(product, before[0] * before[1])
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_a_block_is_too_small_for_threads() -> None:
    assert BLOCK < 32_768  # at::internal::GRAIN_SIZE


def test_a_complex_tensor_is_its_two_parts() -> None:
    assert coordinates(torch.tensor([1 + 2j, 3 - 4j]).conj()).tolist() == [1, -2, 3, 4]


def test_a_distance_is_finite_or_infinite() -> None:
    wide = [torch.randn(2 * BLOCK + 3, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    expected = ((wide[0].double() - wide[1].double()) ** 2).sum().item()
    assert squared_distance(wide[:1], wide[1:]) == pytest.approx(expected, rel=1e-12)
    huge = torch.full((BLOCK + 1,), 1e308, dtype=torch.float64)
    assert squared_distance([huge], [-huge]) == math.inf
    assert squared_distance([huge], [huge]) == 0.0
    assert squared_distance([], []) == 0.0
