"""The command `fednet sample`: whose drawer is asked, where images go, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from fednet.errors import UsageError
from fednet.methods.contract import Drawer, Method
from fednet.methods.registry import find
from fednet.methods.sample_request import SampleRequest
from fednet.reporting.samples import SampleBatch, read_samples
from launch.commands import sample as command
from launch.commands.sample import sample_checkpoint, sample_cluster
from launch.errors import ConfigError
from launch.run.endpoint import EndpointOptions

ENDPOINT = EndpointOptions("tcp://127.0.0.1:0", join=("tcp://127.0.0.1:1",))
SAMPLES = SampleBatch(torch.zeros(4, 1, 8, 8), torch.tensor([7, 7, 1, 1]), ("a note",))
VALUES: dict[str, Any] = {"labels": (1, 7), "count": 2, "seed": 0}
GRID = "grid.png"

Clusters = Callable[[Mapping[str, str]], list[tuple[str, Any]]]


class SharpRequest(SampleRequest):
    """A request with a setting of the method's own."""

    sharp: bool = False


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Clusters:
    """A cluster whose clients run some methods, without a network; returns who draws what, in order."""

    def of(methods: Mapping[str, str]) -> list[tuple[str, Any]]:
        drawn: list[tuple[str, Any]] = []

        def find_method(name: str) -> Method:
            def draw(_network: Any, request: Any, _progress: Any) -> SampleBatch:
                drawn.append((name, request))
                return SAMPLES

            return replace(find("regression"), name=name, drawer=Drawer(SharpRequest, draw, lambda _, r: draw(_, r, _)))

        def run_as_guest(_endpoint: Any, _method: str, job: Any, _console: Any) -> Any:
            return job(SimpleNamespace(methods=methods), None)

        monkeypatch.setattr(command, "find_method", find_method)
        monkeypatch.setattr("launch.run.guest.run_as_guest", run_as_guest)
        return drawn

    return of


@pytest.mark.parametrize("method", ["score-inference", "fedbagan"])
def test_the_method_of_the_cluster_draws(cluster: Clusters, console: Console, tmp_path: Path, method: str) -> None:
    drawn = cluster({"a1": method, "a2": method})
    sample_cluster(ENDPOINT, tmp_path / GRID, console, VALUES, settings=["sharp=true"])
    assert drawn == [(method, SharpRequest(labels=(1, 7), count=2, sharp=True))]
    with Image.open(tmp_path / GRID) as picture:
        assert picture.size[0] == picture.size[1]  # two rows of two
    assert "a note" in console.export_text()
    beside = read_samples(tmp_path / "grid.safetensors")
    assert torch.equal(beside.images, SAMPLES.images)
    assert beside.classes == SAMPLES.classes


@pytest.mark.parametrize("methods", [{"a1": "fedbagan", "a2": "novelty"}, {"a1": "os.path"}, {"a1": ""}])
def test_a_module_is_never_imported_because_a_cluster_names_it(
    cluster: Clusters, console: Console, tmp_path: Path, methods: dict[str, str]
) -> None:
    drawn = cluster(methods)
    with pytest.raises(ConfigError, match="--method: expected the method's module"):
        sample_cluster(ENDPOINT, tmp_path / GRID, console, VALUES)
    sample_cluster(ENDPOINT, tmp_path / GRID, console, VALUES, method="my_package.method")
    assert [name for name, _ in drawn] == ["my_package.method"]


def test_a_folder_gets_a_file_each_by_label(cluster: Clusters, console: Console, tmp_path: Path) -> None:
    cluster({"a1": "fedbagan"})
    sample_cluster(ENDPOINT, tmp_path / "digits", console, VALUES)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert names == [f"digits/{label}/{index:05d}.png" for label, index in ((1, 2), (1, 3), (7, 0), (7, 1))]
    labels = read_samples(tmp_path / "digits" / "samples.safetensors").labels
    assert labels is not None
    assert labels.tolist() == [7, 7, 1, 1]
    with Image.open(tmp_path / "digits" / "1" / "00002.png") as picture:
        assert picture.size == (8, 8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sharpe=true", "--set sharpe=true: sharpe: expected one of the keys .*Did you mean sharp?"),
        ("sharp=much", "--set sharp=much: sharp: expected a valid boolean, got 'much'"),
        ("sharp", "--set sharp: expected key=value"),
    ],
)
def test_a_setting_that_a_method_does_not_have_is_refused(
    cluster: Clusters, console: Console, tmp_path: Path, setting: str, message: str
) -> None:
    cluster({"a1": "fedbagan"})
    with pytest.raises(ConfigError, match=message):
        sample_cluster(ENDPOINT, tmp_path / GRID, console, VALUES, settings=[setting])


def test_an_output_that_cannot_be_written_is_refused_before_the_cluster_is_asked(
    cluster: Clusters, console: Console, tmp_path: Path
) -> None:
    drawn = cluster({"a1": "fedbagan"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    for output in ("none/grid.png", "none/folder", "full", "grid.jpg"):
        with pytest.raises((ConfigError, UsageError), match="--output"):
            sample_cluster(ENDPOINT, tmp_path / output, console, VALUES)
    assert drawn == []


def test_a_method_without_samples_says_so(console: Console, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"regression": "{}"})
    with pytest.raises(ConfigError, match="The method regression has no samples to draw"):
        sample_checkpoint(tmp_path / "x.safetensors", tmp_path / GRID, console, VALUES, method="regression")


def test_a_checkpoint_names_its_method(cluster: Clusters, console: Console, tmp_path: Path) -> None:
    drawn = cluster({})
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"fedbagan": "{}", "other": ""})
    sample_checkpoint(tmp_path / "x.safetensors", tmp_path / GRID, console, VALUES)
    assert [name for name, _ in drawn] == ["fedbagan"]


def test_a_foreign_checkpoint_is_refused(console: Console, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an existing file"):
        sample_checkpoint(tmp_path / "none", tmp_path / GRID, console, VALUES)
    (tmp_path / "file").write_bytes(b"foreign")
    with pytest.raises(ConfigError, match="a safetensors file"):
        sample_checkpoint(tmp_path / "file", tmp_path / GRID, console, VALUES)
    save_file({"x": torch.zeros(1)}, tmp_path / "other", {"os.path": "{}"})
    with pytest.raises(ConfigError, match=r"expected a checkpoint of one of the methods fedbagan.* --method"):
        sample_checkpoint(tmp_path / "other", tmp_path / GRID, console, VALUES)
    assert not (tmp_path / GRID).exists()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"cmtii": "{}"}, "got a file of the method cmtii"),
        ({"classes": "[]"}, "got samples, which `fednet fid` compares"),
        ({}, "got a file that names no method"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(
    console: Console, tmp_path: Path, metadata: dict[str, str], said: str
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(ConfigError, match=f"expected a checkpoint of one of the methods fedbagan.*{said}"):
        sample_checkpoint(tmp_path / "x.safetensors", tmp_path / GRID, console, VALUES)
