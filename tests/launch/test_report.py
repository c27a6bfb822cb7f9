"""The report: everything that is there, nothing from elsewhere."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from launch import report
from launch.config import load
from launch.events import Event, EventFile

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(load("score-inference").dump())
    for arm in ("mixture", "mean", "real", "another"):
        (tmp_path / "samples" / arm).mkdir(parents=True)
        (tmp_path / "samples" / arm / "grid.png").write_bytes(PIXEL)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "f.png").write_bytes(PIXEL)
    metrics = {
        "title": "Five <sites>",
        "columns": ["arm", "FID"],
        "rows": [["mean", 5.9512], ["mixture", 1.048]],
        "notes": ["a note"],
        "figures": [{"title": "magnitude", "file": "figures/f.png"}, {"title": "gone", "file": "figures/g.png"}],
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    tally = {"answered": 9, "first": 1, "last": 9, "late": 0}
    account = {"steps": 9, "nodes": {"a1": tally}, "lost": {"a2": {"step": 4, "reason": "silent"}}, "orphaned": [3]}
    (tmp_path / "contributions.json").write_text(json.dumps({"mixture": account}))
    with EventFile(tmp_path / "events.jsonl") as file:
        for each in HAPPENED:
            file.write(each)
    return tmp_path


def progress(time, node, done, loss):
    return Event(time, node, "progress", {"phase": "training", "done": done, "total": 9, "values": {"loss": loss}})


HAPPENED = [
    Event(100.0, "", "began", {"versions": {"fednet": "9.9", "torch": "8.8"}}),
    Event(110.0, "a1", "started", {"role": "client"}),
    Event(110.0, "a2", "started", {"role": "client"}),
    Event(110.0, "sampler", "started", {"role": "guest"}),
    progress(120.0, "a1", 1, 0.9),
    progress(130.0, "a1", 2, 0.5),
    progress(130.0, "sampler", 2, 0.5),
    Event(150.0, "a1", "ready", {}),
    progress(160.0, "a1", 3, 0.4),
    Event(160.0, "a2", "died", {"cause": "was killed by SIGKILL", "words": "out of <memory>"}),
    Event(190.0, "a1", "stopped", {"code": 0}),
    Event(200.0, "", "over", {"code": 0, "reason": ""}),
]


class Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.links, self.open, self.said = [], [], []
        self.feed(text)

    def handle_startendtag(self, tag, attrs):
        """An empty element opens nothing."""

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in {"src", "href", "srcset"}]
        if tag not in {"meta", "img", "line", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def test_the_page_is_whole_and_refers_to_nothing_outside(folder):
    text = report.write(folder).read_text()
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|<script", text)
    assert not list(folder.glob("*.part"))


def test_the_page_says_what_was_found(folder):
    said = " ".join(Page(report.write(folder).read_text()).said)
    for wanted in (
        "Five <sites>",
        "5.951",
        "a note",
        "magnitude",
        "silent",
        "out of <memory>",
        "torch 8.8",
        "1 min 40 s",
    ):
        assert wanted in said
    assert "gone" not in said
    assert "not complete" not in said


def test_real_pictures_come_first_then_the_arms_of_the_configuration(folder):
    titles = [picture.title for picture in report.samples(folder, ["mean", "mixture", "absent"])]
    assert titles == ["real data", "mean", "mixture", "another"]


@pytest.mark.parametrize("left", ["events.jsonl", "metrics.json", "contributions.json", "config.yaml", None])
def test_what_is_not_there_is_left_out(folder, left):
    for name in ("events.jsonl", "metrics.json", "contributions.json", "config.yaml"):
        if left in {None, name}:
            (folder / name).unlink()
    assert Page(report.write(folder).read_text()).open == []


def test_an_interrupted_run_says_so(folder):
    with EventFile(folder / "events.jsonl") as file:
        file.write(Event(201.0, "", "over", {"code": 130, "reason": "interrupted"}))
    said = " ".join(Page(report.write(folder).read_text()).said)
    assert "This run is not complete." in said
    assert "interrupted" in said


@pytest.mark.parametrize("file", ["../secret.png", "config.yaml", "figures", "figures/none.png"])
def test_only_pictures_of_the_folder_are_shown(folder, file):
    (folder.parent / "secret.png").write_bytes(PIXEL)
    assert report.data_uri(folder, file) == ""


def test_curves_are_those_of_the_clients():
    (chart,) = report.curves(HAPPENED)
    assert chart.title == "training: loss"
    assert [name for name, _ in chart.legend] == ["a1"]


def test_lanes_show_who_did_what_when():
    first, second, guest = report.lanes(HAPPENED)
    assert [(part.kind, part.start, part.width) for part in first.stretches] == [
        ("starting", 10.0, 10.0),
        ("working", 20.0, 30.0),
        ("ready", 50.0, 40.0),
    ]
    assert (first.end, first.died) == ("stopped", False)
    assert (second.end, second.died, second.words) == ("was killed by SIGKILL", True, "out of <memory>")
    assert guest.end == ""


def test_no_events_no_lanes():
    assert report.lanes([]) == []
