"""Masks: what they leave, and that they complement each other."""

from __future__ import annotations

import pytest
import torch

from fednet.diffusion.config import MaskKind
from fednet.diffusion.masks import checkerboard, masks
from fednet.errors import ModelError

KINDS = ("alternating", "checkerboard", "centre", "random")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [(8, 8), (28, 28), (9, 13), (32, 16)])
def test_every_mask_keeps_something_and_leaves_something_to_draw(kind: MaskKind, side: tuple[int, int]) -> None:
    found = masks(kind, 5, side, blocks=4)
    assert found.shape == (5, *side)
    assert found.dtype == torch.bool
    known = found.flatten(1).double().mean(1)
    assert float(known.min()) > 0.25
    assert float(known.max()) < 0.8


def test_alternating_masks_are_a_checkerboard_and_its_complement_in_turn() -> None:
    found = masks("alternating", 5, (8, 8))
    assert torch.equal(found[1], ~found[0])
    assert torch.equal(found[0], checkerboard((8, 8), 4))
    assert torch.equal(found[2:4], found[:2])
    assert torch.equal(found[4], found[0])


def test_an_even_number_of_alternating_masks_keeps_every_pixel_half_of_the_time() -> None:
    assert torch.equal(masks("alternating", 6, (10, 14), blocks=3).sum(0), torch.full((10, 14), 3))


@pytest.mark.parametrize(("side", "blocks"), [((8, 8), 4), ((12, 8), 2), ((32, 32), 8)])
def test_a_checkerboard_has_as_many_blocks_along_each_edge_as_was_said(side: tuple[int, int], blocks: int) -> None:
    board = checkerboard(side, blocks)
    assert int((board[0, 1:] != board[0, :-1]).sum()) == blocks - 1
    assert int((board[1:, 0] != board[:-1, 0]).sum()) == blocks - 1
    high, wide = side[0] // blocks, side[1] // blocks
    assert torch.equal(board[high:, :], ~board[:-high, :])
    assert torch.equal(board[:, wide:], ~board[:, :-wide])


def test_the_centre_is_a_quarter_of_the_picture_in_its_middle() -> None:
    hole = ~masks("centre", 1, (8, 12))[0]
    assert int(hole.sum()) == 4 * 6
    assert torch.equal(hole, hole.flip(0))
    assert torch.equal(hole, hole.flip(1))
    assert bool(hole[4, 6])


def test_random_masks_depend_on_seed_and_position_and_on_nothing_else() -> None:
    short, long = masks("random", 2, (8, 8), seed=1), masks("random", 6, (8, 8), seed=1)
    assert torch.equal(short, long[:2])
    assert not torch.equal(long, masks("random", 6, (8, 8), seed=2))
    assert len({tuple(mask.flatten().tolist()) for mask in long}) > 1
    assert long.flatten(1).sum(1).tolist() == [32] * 6
    blocks = long.view(6, 4, 2, 4, 2)
    assert torch.equal(blocks, blocks[:, :, :1, :, :1].expand_as(blocks))


@pytest.mark.parametrize(("side", "blocks"), [((3, 3), 2), ((8, 3), 4), ((8, 8), 9), ((8, 8), 1)])
def test_pictures_that_are_too_small_are_refused(side: tuple[int, int], blocks: int) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        masks("alternating", 2, side, blocks=blocks)
