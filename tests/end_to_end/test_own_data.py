"""Three sites with folders of their own, as in docs/own-data.md: a method ends well, or refuses before it trains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fednet.reporting.summary import read_summary

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
CLASSES = {"a": ("ant", "bee", "cat", "dog"), "b": ("elk", "fox", "gnu", "hen")}
SUFFIXES = {"a": ".png", "b": ".jpg"}


def page_configuration() -> dict[str, Any]:
    """The cluster.yaml of the page."""
    block = re.search(r"    # own\.yaml\n((?:    .*\n)+)", PAGE.read_text("utf-8"))
    assert block is not None
    values: dict[str, Any] = yaml.safe_load(re.sub("^    ", "", block[1], flags=re.MULTILINE))
    return values


def paint(folder: Path, suffix: str, seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = random.integers(0, 60, (10, 10))
        pixels[seed % 10] += 180
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}{suffix}")


@pytest.fixture(scope="module")
def folders(terminal: Any) -> Any:
    """A terminal in a folder with the three folders of the page."""
    for site, names in CLASSES.items():
        for seed, name in enumerate(names):
            paint(terminal.folder / site / name, SUFFIXES[site], seed + 4 * (site == "b"), 12)
    paint(terminal.folder / "c", ".png", 9, 20)
    return terminal


def run(folders: Any, name: str, sites: str, **settings: Any) -> Any:
    """Launches the page's configuration with some of its sites and other settings, to its end: the command."""
    values = page_configuration()
    nodes = {site: values["nodes"][site] for site in sites}
    if "method" in settings:
        values = {"data": values["data"]}
    whole = {**values, **settings, "name": name, "nodes": nodes, "devices": {"threads": 1}}
    (folders.folder / f"{name}.yaml").write_text(yaml.safe_dump(whole), "utf-8")
    command = folders.run("launch", f"{name}.yaml")
    command.run = folders.folder / "runs" / name
    return command


def test_score_inference_ends_well_without_anybody_s_images(folders: Any) -> None:
    command = run(folders, "scores", "abc", samples={"total": 8}, sampler={"kind": "euler-maruyama", "steps": 3})
    assert command.code == 0, command.err
    data = read_summary(command.run).sections[-1]
    assert data.table is not None
    assert data.table.rows == (("a", "its own", 48), ("b", "its own", 48), ("c", "its own", 20))
    assert data.notes[0] == "Classes: ant, bee, cat, dog, elk, fox, gnu, hen."
    assert not (command.run / "samples" / "real").exists()


def test_private_gan_ends_well_without_anybody_s_images(folders: Any) -> None:
    command = run(
        folders, "gan", "abc", method="private-gan", rounds=1, model={"latent": 4},
        train={"steps": 1, "rate": 0.2}, report={"samples": 40},
    )  # fmt: skip
    assert command.code == 0, command.err
    summary = read_summary(command.run)
    assert summary.sections[-1].notes[-1].startswith("Nothing was measured: every site has data of its own")
    assert (command.run / "samples" / "rounds.gif").is_file() or any((command.run / "samples").glob("*.png"))


CONDITIONAL = {"conditional": True, "channels": [8], "groups": 4}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "labels": ("abc", {"model": CONDITIONAL}, "model.conditional: true needs labels, and the pictures of c have none"),
    "class": (
        "ab", {"model": CONDITIONAL, "samples": {"labels": ["cow"]}},
        "samples.labels names the class 'cow'; the classes are ant, bee, cat, dog, elk, fox, gnu, hen",
    ),
    "fedbagan": ("abc", {"method": "fedbagan"}, "the method fedbagan needs labels, and the pictures of c have none"),
    "novelty": ("abc", {"method": "novelty"}, "the method novelty needs labels, and the pictures of c have none"),
    "cmtii": ("abc", {"method": "cmtii"}, "the method cmtii needs labels, and the pictures of c have none"),
    "words": ("ab", {"method": "cmtii"}, "the embedded models know the classes of the run's data"),
    "flow": ("ab", {"method": "novelty"}, "the method novelty needs pictures of its own to measure with"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_done_is_refused_before_anything_trains(folders: Any, name: str) -> None:
    sites, settings, said = REFUSED[name]
    command = run(folders, name, sites, **settings)
    assert command.code == 4
    assert said in command.err
    phases = {str(event.data.get("phase")) for event in command.happened("progress")}
    assert phases <= {"waiting for the other sites", "reading pictures"}
