"""Pictures survive the way to bytes and back; a wrong range is refused instead of clamped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fednet.errors import MeasureError
from fednet.images import from_bytes, grid, require_pictures, save_png, to_bytes


def test_bytes_survive_the_way_there_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    assert torch.equal(to_bytes(from_bytes(every)), every)
    assert from_bytes(every).min() == -1
    assert from_bytes(every).max() == 1


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.linspace(0, 1, 64).view(1, 1, 8, 8).repeat(2, 1, 1, 1), r"look like \[0, 1\]"),
        (torch.linspace(0, 255, 64).view(1, 1, 8, 8), "look like bytes"),
        (torch.full((1, 1, 2, 2), -1.01), r"\[-1.01, -1.01\]"),
        (torch.tensor([[[[0.0, torch.nan]]], [[[0.0, 0.0]]]]), "1 of 2 pictures hold NaN"),
        (torch.zeros(8, 8), r"\(n, c, h, w\)"),
        (torch.zeros(0, 1, 8, 8), "non-empty"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_wrong_pictures_are_refused(images: Tensor, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        require_pictures(images)


def test_bright_constants_and_a_single_bright_picture_are_fine() -> None:
    require_pictures(torch.full((3, 1, 2, 2), 0.9))
    require_pictures(torch.linspace(0, 1, 4).view(1, 1, 2, 2))
    require_pictures(torch.linspace(-1 - 5e-5, 1 + 5e-5, 8).view(2, 1, 2, 2))


def test_a_grid_lays_out_in_rows_with_lines_between() -> None:
    shades = torch.tensor([-1.0, -0.5, 0.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    pixels = grid(shades, columns=2, scale=1)
    assert pixels.shape == (7, 7, 3)
    assert pixels.dtype == np.uint8
    assert pixels[1:3, 1:3].max() == 0
    assert (pixels[1:3, 4:6] == 64).all()
    assert (pixels[4:6, 1:3] == 128).all()
    assert (pixels[0] == 255).all()
    assert (pixels[4:6, 4:6] == 255).all()


def test_a_grid_keeps_colours_and_enlarges_small_pictures() -> None:
    images = torch.stack([torch.full((8, 8), level) for level in (-1.0, 0.0, 1.0)]).unsqueeze(0)
    pixels = grid(images, columns=1)
    assert pixels.shape == (34, 34, 3)
    assert pixels[5, 5].tolist() == [0, 128, 255]


def test_a_grid_refuses_what_it_cannot_show() -> None:
    with pytest.raises(MeasureError, match="2 channels"):
        grid(torch.zeros(1, 2, 4, 4), columns=1)
    with pytest.raises(MeasureError, match="0 columns"):
        grid(torch.zeros(1, 1, 4, 4), columns=0)


def test_saved_pictures_are_read_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "deep" / "inside.png"
    save_png(path, pixels)
    with Image.open(path) as saved:
        assert np.array_equal(np.asarray(saved), pixels)
    assert [file.name for file in path.parent.iterdir()] == ["inside.png"]
