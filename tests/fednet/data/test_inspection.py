"""Every file is read once, and counted by how it is stored and what is done to it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fednet.data.config import DataConfig
from fednet.data.inspection import inspect_files


def test_files_are_counted_and_what_cannot_be_read_is_kept_by_name(tmp_path: Path) -> None:
    Image.new("L", (4, 6)).save(tmp_path / "a.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "b.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "c.jpg")
    (tmp_path / "d.png").write_text("no image")
    files = [tmp_path / name for name in ("a.png", "b.png", "c.jpg", "d.png", "e.png")]
    found = inspect_files(files, DataConfig(name="folder", root=tmp_path))
    assert found.kinds == {"PNG L": 1, "PNG RGBA": 1, "JPEG RGB": 1}
    assert found.sizes == {(4, 6): 1, (8, 8): 2}
    assert found.conversions == {"transparency over the background": 1}
    assert found.colour == 2
    assert [Path(error.path).name for error in found.refused] == ["d.png", "e.png"]
    assert found.refused[1].reason == "No such file or directory"
