"""Pools: images of files and arrays as tensors, in the order that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fednet.data.config import DataConfig
from fednet.data.pools import ImagePool, conform, resize, stack
from fednet.errors import DataError


def test_resizing_keeps_constants_and_the_same_size() -> None:
    images = torch.full((2, 1, 9, 5), 0.3)
    assert resize(images, None) is images
    torch.testing.assert_close(resize(images, 4), torch.full((2, 1, 4, 4), 0.3))


def config(**keys: Any) -> DataConfig:
    return DataConfig(name="folder", root=Path(), **keys)


def test_stack_reads_in_the_order_given(tmp_path: Path) -> None:
    for value in (0, 255):
        Image.new("L", (6, 6), value).save(tmp_path / f"{value}.png")
    images = stack([tmp_path / "255.png", tmp_path / "0.png"], config(), 3)
    assert images[:, 0, 0, 0].tolist() == [1, -1]
    assert images.shape == (2, 3, 6, 6)


def test_images_of_several_sizes_need_one_size(tmp_path: Path) -> None:
    paths = [tmp_path / f"{side}.png" for side in (4, 6)]
    for side, path in zip((4, 6), paths, strict=True):
        Image.new("L", (side, side)).save(path)
    with pytest.raises(DataError, match=r"set data\.size"):
        stack(paths, config(), 1)
    assert stack(paths, config(size=5), 1).shape == (2, 1, 5, 5)


@pytest.mark.parametrize("turned", [False, True])
def test_what_is_not_square_is_cropped_padded_or_squashed(turned: bool) -> None:
    """A black square between two white ones: the middle alone, all with background, or all distorted."""
    strip = torch.ones(1, 1, 8, 24)
    strip[..., 8:16] = -1
    images = strip.transpose(2, 3) if turned else strip
    assert torch.equal(conform(images, config(size=8)), torch.full((1, 1, 8, 8), -1.0))
    padded = conform(images, config(size=24, fit="pad", background="grey"))[0, 0]
    padded = padded.T if turned else padded
    assert torch.equal(padded[:8], torch.zeros(8, 24))
    assert torch.equal(padded[8:16], strip[0, 0])
    assert torch.equal(padded[16:], torch.zeros(8, 24))
    squashed = conform(images, config(size=8, fit="squash"))[0, 0]
    assert torch.equal(squashed, resize(images, 8)[0, 0])
    assert squashed.min() < 0 < squashed.max()


def test_channels_are_those_asked_for() -> None:
    grey = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    colour = conform(grey, config(channels=3))
    assert torch.equal(colour, grey.expand(1, 3, 4, 4))
    assert torch.equal(conform(colour, config(channels=1)), grey)
    green = torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1)
    assert float(conform(green, config(), 1)) == pytest.approx(2 * 0.587 - 1)


def test_a_pool_in_memory_reads_what_is_asked_for() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 4) / 3
    pool = ImagePool.of(images, torch.tensor([0, 1, 0]), ("a", "b"))
    assert torch.equal(pool.read(torch.tensor([2, 0])), images[[2, 0]])
