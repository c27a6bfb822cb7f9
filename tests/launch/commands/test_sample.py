"""The command `fednet sample`: which method is asked, where pictures go, and what is refused before anyone is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from fednet.errors import ModelError
from fednet.reporting.samples import SampleBatch
from launch.commands import sample
from launch.commands.node import EndpointOptions
from launch.commands.sample import REQUEST_MAKERS, sample_checkpoint, sample_cluster
from launch.errors import ConfigError
from nodes.errors import MethodMismatch

PLACE = EndpointOptions("tcp://127.0.0.1:0", join=("tcp://127.0.0.1:1",))
DRAWN = SampleBatch(torch.zeros(4, 1, 8, 8), torch.tensor([7, 7, 1, 1]), ("a note",))


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A cluster of some method, without a network: who was asked for, in order."""

    def of(method: str) -> list[str]:
        asked: list[str] = []

        def visit(_place: EndpointOptions, wanted: str, _job: Any, _console: Console) -> SampleBatch:
            asked.append(wanted)
            if wanted != method:
                raise MethodMismatch(wanted, {"a1": method, "a2": method})
            return DRAWN

        monkeypatch.setattr(sample, "visit", visit)
        return asked

    return of


@pytest.mark.parametrize("method", list(REQUEST_MAKERS))
def test_the_clusters_own_method_draws(
    cluster: Callable[[str], list[str]], console: Console, tmp_path: Path, method: str
) -> None:
    asked = cluster(method)
    sample_cluster(PLACE, tmp_path / "grid.png", console, labels=(1, 7), count=2, seed=0, rule=None)
    assert asked[-1] == method
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size[0] == picture.size[1]  # two rows of two
    assert "a note" in console.export_text()


def test_a_cluster_that_draws_nothing_says_what_it_runs(
    cluster: Callable[[str], list[str]], console: Console, tmp_path: Path
) -> None:
    cluster("novelty")
    with pytest.raises(MethodMismatch, match="here a1, a2 run novelty"):
        sample_cluster(PLACE, tmp_path / "grid.png", console, count=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_gets_a_file_each_by_label(
    cluster: Callable[[str], list[str]], console: Console, tmp_path: Path
) -> None:
    cluster("fedbagan")
    sample_cluster(PLACE, tmp_path / "digits", console, count=2)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert names == [f"digits/{label}/{index:05d}.png" for label, index in ((1, 2), (1, 3), (7, 0), (7, 1))]
    with Image.open(tmp_path / "digits" / "1" / "00002.png") as picture:
        assert picture.size == (8, 8)


def test_a_wish_that_a_method_does_not_have_is_refused(
    cluster: Callable[[str], list[str]], console: Console, tmp_path: Path
) -> None:
    cluster("fedbagan")
    with pytest.raises(ConfigError, match="has no rule"):
        sample_cluster(PLACE, tmp_path / "grid.png", console, count=1, rule="mixture")
    (tmp_path / "file").write_bytes(b"foreign")
    with pytest.raises(ConfigError, match="A checkpoint draws in one step and has no guidance"):
        sample_checkpoint(tmp_path / "file", tmp_path / "grid.png", console, count=1, guidance=2.0)


def test_a_place_that_is_none_is_refused_before_anybody_is_asked(
    cluster: Callable[[str], list[str]], console: Console, tmp_path: Path
) -> None:
    asked = cluster("fedbagan")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    for place in ("none/grid.png", "none/folder", "full"):
        with pytest.raises(ConfigError):
            sample_cluster(PLACE, tmp_path / place, console, count=1)
    assert asked == []


def test_a_foreign_checkpoint_is_refused(console: Console, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an existing file"):
        sample_checkpoint(tmp_path / "none", tmp_path / "grid.png", console, count=1)
    (tmp_path / "file").write_bytes(b"foreign")
    with pytest.raises(ModelError, match="is no checkpoint of fedbagan"):
        sample_checkpoint(tmp_path / "file", tmp_path / "grid.png", console, count=1)
    assert not (tmp_path / "grid.png").exists()
