"""Three sites with folders of their own, as in docs/own-data.md: a method ends well, or refuses before it trains."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fednet.reporting.samples import read_samples
from fednet.reporting.summary import read_summary

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
CLASSES = {"a": ("ant", "bee", "cat", "dog"), "b": ("elk", "fox", "gnu", "hen")}
SUFFIXES = {"a": ".png", "b": ".jpg"}


def page_configuration(name: str) -> dict[str, Any]:
    """A block of the page."""
    block = re.search(rf"    # {name}\.yaml\n((?:    .*\n)+)", PAGE.read_text("utf-8"))
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
    """A terminal in a folder with the folders of the page."""
    for site, names in CLASSES.items():
        for seed, name in enumerate(names):
            paint(terminal.folder / site / name, SUFFIXES[site], seed + 4 * (site == "b"), 12)
            paint(terminal.folder / "public" / name, ".png", seed + 4 * (site == "b"), 16)
    paint(terminal.folder / "c", ".png", 9, 20)
    return terminal


def configure(folders: Any, name: str, sites: str, page: str = "own", **settings: Any) -> str:
    """Writes a block of the page, with some of its sites and other settings: the file."""
    own = page_configuration("own")
    values = own if page == "own" else {"data": own["data"], **page_configuration(page)}
    nodes = {site: values.get("nodes", own["nodes"])[site] for site in sites}
    if "method" in settings:
        values = {"data": values["data"]}
    for key, value in settings.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    values |= {"name": name, "nodes": nodes, "devices": {"threads": 1}}
    (folders.folder / f"{name}.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return f"{name}.yaml"


def run(folders: Any, name: str, sites: str, page: str = "own", **settings: Any) -> Any:
    """Launches it, to its end: the command."""
    command = folders.run("launch", configure(folders, name, sites, page, **settings))
    command.run = folders.folder / "runs" / name
    return command


def ended_well(command: Any, *permissions: str) -> Any:
    """The summary of a run that has ended well, whose figures are all there; a and b have given these permissions."""
    assert command.code == 0, command.err
    summary = read_summary(command.run)
    for section in summary.sections:
        assert all((command.run / figure.file).is_file() for figure in section.figures)
    assert summary.sections[-1].notes == (
        "Classes: ant, bee, cat, dog, elk, fox, gnu, hen.",
        *(
            f"NOT PRIVATE: a, b answer, or have answered, from private pictures without noise ({key})."
            for key in permissions
        ),
        "There were no pictures to measure with: every site has data of its own, and none was named (measure.data).",
    )
    return summary


def test_score_inference_ends_well_without_anybody_s_images(folders: Any) -> None:
    command = run(folders, "scores", "abc", samples={"total": 8}, sampler={"kind": "euler-maruyama", "steps": 3})
    data = ended_well(command).sections[-1]
    assert data.table.rows == (("a", "its own", 48), ("b", "its own", 48), ("c", "its own", 20))
    assert not (command.run / "samples" / "real").exists()


@pytest.mark.slow
def test_private_gan_ends_well_without_anybody_s_images(folders: Any) -> None:
    command = run(
        folders, "gan", "abc", method="private-gan", rounds=1, model={"latent": 4},
        train={"steps": 1, "rate": 0.2}, report={"samples": 40},
    )  # fmt: skip
    ended_well(command)
    assert (command.run / "samples" / "rounds.gif").is_file() or any((command.run / "samples").glob("*.png"))


@pytest.mark.slow
def test_fedbagan_ends_well_without_anybody_s_images(folders: Any) -> None:
    command = run(
        folders, "bagan", "ab", "fedbagan", model={"latent": 4, "width": 4}, autoencoder={"rounds": 2, "steps": 2},
        gan={"rounds": 2, "steps": 1, "first": 1}, report={"every": 1, "per_class": 33},
    )  # fmt: skip
    summary = ended_well(command)
    assert [section.title for section in summary.sections] == ["Samples", "Losses", "Data"]
    with Image.open(command.run / "samples" / "round-0002.png") as grid:
        assert grid.size == (8 * 33 + 1, 4 * 33 + 1)
    samples = read_samples(command.run / "samples" / "last.safetensors")
    assert (len(samples.images), samples.classes) == (8 * 33, CLASSES["a"] + CLASSES["b"])
    drawn = folders.call("sample", "--checkpoint", command.run / "checkpoints/best.safetensors", "--labels", "fox")
    assert drawn.code == 0, drawn.err


@pytest.mark.slow
def test_novelty_ends_well_without_anybody_s_images(folders: Any) -> None:
    command = run(
        folders, "novel", "ab", "novelty", flow={"first_epochs": 1, "rounds": 1, "detector_rounds": 1},
        disclose={"calibrate": {"pictures": 2}, "evaluate": {"pictures": 4}},
        detector={
            "unet": {"channels": [8], "groups": 4, "attention": False}, "train": {"steps": 2}, "alone": 2,
            "score": {"reconstructions": 2, "steps": 2, "false_alarms": 0.2},
        },
    )  # fmt: skip
    summary = ended_well(command, "disclose.calibrate", "disclose.evaluate")
    data, trials = summary.sections[-1].table, summary.sections[-2].table
    assert data.rows == (("a", "its own", 36, 12), ("b", "its own", 36, 12))
    assert [row[0] for row in trials.rows] == ["detector of the rounds", "a alone", "b alone"]
    assert None not in {row[1] for row in trials.rows}


@pytest.mark.slow
def test_cmtii_ends_well_without_anybody_s_images(folders: Any) -> None:
    pretraining = {"steps": 2, "batch": 8, "lr": 0.001}
    command = run(
        folders, "words", "ab", "cmtii", learn={"steps": 2, "batch": 8}, report={"views": 2},
        disclose={"evaluate": {"pictures": 4}, "leakage": {"pictures": 4}},
        tune={"generated": 4, "steps": 2, "batch": 8, "rank": 2},
        backend={
            "kind": "embedded",
            "clip": {"vision": 16, "vision_layers": 1, "text_layers": 1, "pretraining": pretraining},
            "image_generator": {"channels": [8], "steps": 2, "pretraining": pretraining},
        },
    )  # fmt: skip
    summary = ended_well(command, "disclose.evaluate", "disclose.leakage")
    assert summary.sections[0].title == "Accuracy on each site's own test"
    assert summary.sections[-1].table.rows == (("a", "its own", 36, 12), ("b", "its own", 36, 12))
    received = read_samples(command.run / "sites" / "a" / "generated-exchange.safetensors")
    assert received.labels is not None
    assert {received.classes[label] for label in received.labels.tolist()} == set(CLASSES["b"])
    given = folders.call("sample", "--checkpoint", command.run / "sites" / "a" / "words.safetensors")
    assert given.code == 2
    assert "a checkpoint of one of the methods fedbagan" in given.err
    assert "a file of the method cmtii" in given.err


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
    "flow": ("ab", {"method": "novelty"}, "b has no pictures of ant, bee, cat: change flow, or partition"),
    "size": (
        "ab", {"measure": {"data": {"name": "digits", "size": 16}}},
        "the data to measure with has pictures 1 x 16 x 16, a has 1 x 8 x 8",
    ),
    "flat": (
        "ab", {"measure": {"data": {"name": "folder", "root": "c", "size": 8, "channels": 1}}},
        "the data to measure with has no labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_check_refuses_what_cannot_be_done(folders: Any, name: str) -> None:
    sites, settings, said = REFUSED[name]
    checked = folders.call("check", configure(folders, name, sites, **settings))
    assert checked.code == 2
    assert said in checked.err


def test_check_says_what_will_be_used_for_what(folders: Any) -> None:
    checked = folders.call("check", configure(folders, "novel-check", "ab", "novelty"))
    assert checked.code == 0, checked.err
    rows = [line.split() for line in checked.out.splitlines()]
    assert ["a", "its", "own", "36", "12"] in rows
    assert "There were no pictures to measure with" in checked.out


@pytest.mark.slow
def test_what_cannot_be_done_is_refused_before_anything_trains(folders: Any) -> None:
    sites, settings, said = REFUSED["labels"]
    command = run(folders, "refused", sites, **settings)
    assert command.code == 2
    assert said in command.err
    assert not command.run.exists()


@pytest.mark.slow
def test_a_site_that_comes_back_with_other_classes_is_refused(folders: Any) -> None:
    """Killed by SIGKILL, with another folder of classes when it is started again; and with its own once more."""
    moved = folders.folder / "b" / "elk"
    given = ("node", "--role", "client", "--config", configure(folders, "hand", "ab", train={"steps": 1}))
    first = folders.start(*given, "--name", "a")
    again = (*given, "--name", "b", "--join", first.says(r"a \(client\) listens on (\S+)"))
    site = folders.start(*again)
    site.says("reading pictures 1/1")
    os.killpg(site.process.pid, signal.SIGKILL)
    site.ends()
    moved.rename(moved.with_name("cow"))
    try:
        refused = folders.run(*again)
    finally:
        moved.with_name("cow").rename(moved)
    assert refused.code == 4
    assert refused.err.splitlines()[-1] == (
        "fednet: b: this run began with other classes, or with images of another shape, as a say: the data of b, or of "
        "another site that was restarted, is no longer what it was; put it back, or start the run anew"
    )
    folders.start(*again).says("reading pictures 1/1")
    assert first.code is None
