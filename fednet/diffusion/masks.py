"""Masks for inpainting: which pixels are known while the rest is sampled.

A mask is bool (h, w), True where a pixel is known; one mask per reconstruction of an image. The checkerboards have
`blocks` squares along each edge, so that every hole has known pixels around it, and the known region is as large as the
hole. "alternating" is the checkerboard and its complement in turn: together they mask every pixel as often as they keep
it.

Source: Liu et al. 2023 (LMD, arXiv 2302.10326), section 4.2 and figure 5; blocks that do not divide the side are a
pixel wider here and there, where the source requires a divisible side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.diffusion.config import MaskKind
from fednet.errors import ModelError
from fednet.seeds import generator


def masks(kind: MaskKind, count: int, side: tuple[int, int], *, blocks: int = 4, seed: int = 0) -> Tensor:
    """The masks of `count` reconstructions, bool (count, h, w), True where known.

    Args:
        kind: "alternating": the checkerboard, its complement, the checkerboard, ...; "checkerboard": the same every
            time; "centre": the middle half of each side is the hole; "random": half of the blocks, chosen anew for
            every reconstruction.
        count: number of masks.
        side: height and width of the images in pixels, each at least `blocks`.
        blocks: squares along each edge; not used by "centre".
        seed: decides the random masks; every mask depends on the seed and its own position only.

    Raises:
        ModelError: the images have fewer pixels than blocks, or a mask would leave nothing known or nothing unknown.
    """
    if blocks < 2 or min(side) < max(blocks, 4):
        raise ModelError(
            f"a mask of {blocks} blocks an edge does not fit pictures of {side[0]} x {side[1]} pixels: it needs at "
            "least 2 blocks, and sides of at least 4 pixels and one pixel a block"
        )
    board = checkerboard(side, blocks)
    if kind == "alternating":
        return torch.stack([board if index % 2 == 0 else ~board for index in range(count)])
    if kind == "random":
        return torch.stack([_random(side, blocks, seed, index) for index in range(count)])
    return (board if kind == "checkerboard" else centre(side)).expand(count, *side).clone()


def checkerboard(side: tuple[int, int], blocks: int) -> Tensor:
    """Bool (h, w): known where the row and the column of the block add up to an even number."""
    rows, columns = (_block(length, blocks) for length in side)
    return (rows[:, None] + columns[None, :]) % 2 == 0


def centre(side: tuple[int, int]) -> Tensor:
    """Bool (h, w): the middle half of each side is unknown."""
    known = torch.ones(side, dtype=torch.bool)
    top, left = side[0] // 4, side[1] // 4
    known[top : side[0] - top, left : side[1] - left] = False
    return known


def _random(side: tuple[int, int], blocks: int, seed: int, index: int) -> Tensor:
    """Half of the blocks (rounded down) are unknown."""
    order = torch.randperm(blocks**2, generator=generator(seed, "mask", index))
    known = torch.ones(blocks**2, dtype=torch.bool)
    known[order[: blocks**2 // 2]] = False
    rows, columns = (_block(length, blocks) for length in side)
    return known.view(blocks, blocks)[rows[:, None], columns[None, :]]


def _block(length: int, blocks: int) -> Tensor:
    """Which block each pixel of an edge belongs to, int64 (length,)."""
    return torch.arange(length) * blocks // length
