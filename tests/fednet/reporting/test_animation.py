"""Grids lie in the order of their rounds, and their animation has a frame for each that is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence

from fednet.reporting.animation import ANIMATION, COLUMNS, ROWS, animate, grid_path, write_grid


def test_a_grid_shows_the_first_samples_only(tmp_path: Path) -> None:
    images = torch.full((ROWS * COLUMNS + 3, 1, 8, 8), -1.0)
    write_grid(tmp_path, 1, images[: ROWS * COLUMNS])
    write_grid(tmp_path, 2, images)
    assert (tmp_path / grid_path(1)).read_bytes() == (tmp_path / grid_path(2)).read_bytes()


def test_a_grid_has_as_many_columns_as_are_asked_for(tmp_path: Path) -> None:
    """FedBAGAN's grids say that a column is a class, and had ten columns whatever the classes."""
    columns = torch.linspace(-1, 1, 3).repeat(ROWS + 1).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    write_grid(tmp_path, 0, columns, columns=3)
    with Image.open(tmp_path / grid_path(0)) as shown:
        shades = np.asarray(shown.convert("L"))[16::33, 16::33]
    assert shades.tolist() == [[0, 128, 255]] * ROWS


def test_files_sort_as_their_rounds_do() -> None:
    assert sorted(map(grid_path, (100, 20, 3))) == [grid_path(3), grid_path(20), grid_path(100)]


def test_the_animation_has_the_grids_that_are_there_in_their_order(tmp_path: Path) -> None:
    for number, shade in ((0, -1.0), (10, 0.0), (20, 1.0)):
        write_grid(tmp_path, number, torch.full((COLUMNS, 1, 8, 8), shade))
    animate(tmp_path, [0, 10, 15, 20])
    with Image.open(tmp_path / ANIMATION) as animation:
        shades = [int(np.asarray(frame.convert("L"))[4, 4]) for frame in ImageSequence.Iterator(animation)]
    assert len(shades) == 3
    assert shades == sorted(shades)
    assert shades[0] < shades[-1]


def test_one_grid_is_no_animation(tmp_path: Path) -> None:
    write_grid(tmp_path, 0, torch.zeros(1, 1, 8, 8))
    animate(tmp_path, [0, 10])
    assert not (tmp_path / ANIMATION).exists()
