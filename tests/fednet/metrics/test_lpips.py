"""LPIPS against torchmetrics', with random weights in the file's format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchmetrics.functional.image.lpips import _LPIPS

from fednet.errors import MeasureError, ModelError
from fednet.metrics.lpips import lpips
from fednet.seeds import generator


@pytest.fixture(scope="module")
def theirs() -> _LPIPS:
    """A random AlexNet below the published weights of the layers, which come with torchmetrics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _LPIPS(pretrained=True, net="alex", pnet_rand=True)


@pytest.fixture(scope="module")
def path(theirs: _LPIPS, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "alex.safetensors"
    save_file({name: value.clone() for name, value in theirs.state_dict().items()}, path)
    return path


def pictures(which: str, side: int = 64, channels: int = 3) -> Tensor:
    return 2 * torch.rand(3, channels, side, side, generator=generator(0, which)) - 1


@pytest.mark.parametrize("side", [64, 80])
def test_it_is_the_distance_of_torchmetrics(theirs: _LPIPS, path: Path, side: int) -> None:
    a, b = pictures("a", side), pictures("b", side)
    torch.testing.assert_close(lpips(path)(a, b), theirs(a, b).flatten())


def test_small_grey_pictures_are_enlarged_and_repeated(theirs: _LPIPS, path: Path) -> None:
    a, b = pictures("a", 8, 1), pictures("b", 8, 1)
    theirs.resize = 64
    try:
        truth = theirs(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)).flatten()
    finally:
        theirs.resize = None
    torch.testing.assert_close(lpips(path)(a, b), truth)


def test_equal_pictures_are_at_distance_zero(path: Path) -> None:
    a = pictures("a")
    assert torch.equal(lpips(path)(a, a), torch.zeros(3))


def test_pictures_of_other_kinds_are_refused(path: Path) -> None:
    distance = lpips(path)
    for a, b in ((pictures("a"), pictures("b", 65)), (pictures("a", 64, 2), pictures("b", 64, 2))):
        with pytest.raises(MeasureError, match="LPIPS compares"):
            distance(a, b)


def test_files_without_the_weights_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x80\x04junk")
    for missing in (tmp_path / "junk", tmp_path / "nothing"):
        with pytest.raises(ModelError, match="no LPIPS weights"):
            lpips(missing)
    good = load_file(path)
    for name in ("net.slice3.6.weight", "lin4.model.1.weight"):
        for bad in ({**good, name: good[name][:, :1].clone()}, {key: v for key, v in good.items() if key != name}):
            save_file(bad, tmp_path / "bad")
            with pytest.raises(ModelError, match=name):
                lpips(tmp_path / "bad")
