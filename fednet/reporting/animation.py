"""Sample grids by round as PNG files, and an animated GIF of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from fednet.files import write_whole
from fednet.images import grid, save_png

ROWS, COLUMNS, MAX_COLUMNS = 4, 10, 20
"""Rows of a grid; samples in a row, unless somebody wants another number, and at most."""
PAUSE, LAST = 250, 2000
"""Milliseconds of a frame of the animation, and of its last one."""
ANIMATION = "samples/rounds.gif"


def grid_path(number: int) -> str:
    """The file of the grid after a round, below the run's folder."""
    return f"samples/round-{number:04d}.png"


def write_grid(folder: Path, number: int, images: Tensor, columns: int = COLUMNS) -> None:
    """Writes the first samples (n, c, h, w) in [-1, 1] as a grid of `ROWS` rows, left to right."""
    save_png(folder / grid_path(number), grid(images[: ROWS * columns], columns))


def animate(folder: Path, numbers: Sequence[int]) -> None:
    """Writes the animation of those grids that exist; with fewer than two it writes nothing."""
    paths = [folder / grid_path(number) for number in numbers]
    frames = [Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE) for path in paths if path.is_file()]
    if len(frames) < 2:
        return
    pauses, buffer = [PAUSE] * (len(frames) - 1) + [LAST], io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    write_whole(folder / ANIMATION, buffer.getvalue(), shared=True)
