"""A grid shows a few images of each class."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from fednet.data.config import DataConfig
from fednet.data.first_images import first_images
from fednet.data.survey import survey


def test_the_grid_has_a_row_for_each_class_and_blanks_where_images_are_few(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    Image.new("L", (8, 6)).save(tmp_path / "a" / "0.png")
    for index in range(4):
        Image.new("L", (6, 6), 128 + index).save(tmp_path / "b" / f"{index}.png")
    config = DataConfig(name="folder", root=tmp_path)
    found = survey(config)
    assert found.files is not None
    images = first_images(found.files, config, 9, 3)
    assert images.shape == (6, 1, 64, 64), "they differ in size"
    assert images[:, 0, 0, 0].add(1).mul(127.5).round().tolist() == [0, 255, 255, 128, 129, 130]
    assert torch.equal(first_images(found.files, config, 1, 3), images[:3])
