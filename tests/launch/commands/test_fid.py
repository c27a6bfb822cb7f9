"""`fednet fid`: what it prints and what it refuses; the distance itself is tested with the metrics."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from fednet.metrics import folders, judge
from launch.commands.fid import compare_folders
from launch.errors import ConfigError


@pytest.fixture
def console() -> Console:
    return Console(record=True, file=io.StringIO(), width=100)


def test_the_distances_are_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, console: Console) -> None:
    seen: dict[str, Any] = {}

    def measured(a: Any, b: Any, trained: Any) -> Any:
        seen.update(folders=(a, b), judge=trained)
        return folders.FolderComparison((30, 40), 1.25, {"3": 2.5}, {"7": "2 images, 65 needed"})

    monkeypatch.setattr(judge, "train_judge", lambda split, seed: ("judge", len(split), seed))
    monkeypatch.setattr(folders, "compare", measured)
    compare_folders(tmp_path, tmp_path, "digits", None, seed=5, console=console)
    assert seen["folders"] == (tmp_path, tmp_path)
    assert seen["judge"][2] == 5
    text = console.export_text()
    for wanted in ("30 images", "40 in", "1.250", "2.500", "2 images, 65 needed"):
        assert wanted in text


def test_a_folder_that_is_not_there(tmp_path: Any, console: Console) -> None:
    with pytest.raises(ConfigError, match="a folder of images"):
        compare_folders(tmp_path, tmp_path / "nothing", "digits", None, seed=0, console=console)


@pytest.mark.parametrize(("data", "said"), [("digts", "digits"), ("mnist", "root")])
def test_a_data_set_that_cannot_be_used(tmp_path: Any, console: Console, data: Any, said: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        compare_folders(tmp_path, tmp_path, data, None, seed=0, console=console)
