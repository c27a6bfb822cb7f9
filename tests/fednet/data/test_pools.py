"""Pools: images of files and arrays as tensors, in the order that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fednet.data.pools import ImagePool, resize, stack
from fednet.errors import DataError


def test_resizing_keeps_constants_and_the_same_size() -> None:
    images = torch.full((2, 1, 9, 5), 0.3)
    assert resize(images, None) is images
    torch.testing.assert_close(resize(images, 4), torch.full((2, 1, 4, 4), 0.3))


def test_stack_reads_in_the_order_given(tmp_path: Path) -> None:
    for value in (0, 255):
        Image.new("L", (6, 6), value).save(tmp_path / f"{value}.png")
    images = stack([tmp_path / "255.png", tmp_path / "0.png"], grey=False, size=None)
    assert images[:, 0, 0, 0].tolist() == [1, -1]
    assert images.shape == (2, 3, 6, 6)


def test_images_of_several_sizes_need_one_size(tmp_path: Path) -> None:
    paths = [tmp_path / f"{side}.png" for side in (4, 6)]
    for side, path in zip((4, 6), paths, strict=True):
        Image.new("L", (side, side)).save(path)
    with pytest.raises(DataError, match=r"set data\.size"):
        stack(paths, grey=True, size=None)
    assert stack(paths, grey=True, size=5).shape == (2, 1, 5, 5)


def test_a_pool_in_memory_reads_what_is_asked_for() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 4) / 3
    pool = ImagePool.of(images, torch.tensor([0, 1, 0]), ("a", "b"))
    assert torch.equal(pool.read(torch.tensor([2, 0])), images[[2, 0]])
