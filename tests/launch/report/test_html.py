"""The report: everything that is there, nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fednet.reporting.summary import (
    LostNode,
    Participation,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummaryFigure,
    SummarySection,
    SummaryTable,
    read_summary,
    write_summary,
)
from launch.config.schema import load_config
from launch.report import html
from launch.run.events import EventFile, LauncherEvent

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    (tmp_path / "config.yaml").write_text(load_config("score-inference").dump())
    for arm in ("mixture", "mean", "real", "another"):
        (tmp_path / "samples" / arm).mkdir(parents=True)
        (tmp_path / "samples" / arm / "grid.png").write_bytes(PIXEL)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "f.png").write_bytes(PIXEL)
    grids = tuple(SummaryFigure(title=arm, file=f"samples/{arm}/grid.png", pixels=True) for arm in ("real", "mixture"))
    plots = (SummaryFigure(title="magnitude", file="figures/f.png"), SummaryFigure(title="gone", file="figures/g.png"))
    table = SummaryTable(columns=("arm", "FID"), rows=(("mean", 5.9512), ("mixture", 1.048)))
    accuracy = SummaryChart(
        title="accuracy by <round>", across="round", lines={"a1": ((1, 0.5), (2, 0.75)), "a2": ((1, 0.6),)}
    )
    account = ParticipationAccount("query", 9, {"a1": Participation(9, 1, 9, 0)}, {"a2": LostNode(4, "silent")})
    sections = (
        SummarySection(title="Results", table=table, notes=("a note",), charts=(accuracy,)),
        SummarySection(title="Pictures", figures=grids + plots),
    )
    write_summary(tmp_path, Summary(title="Five <sites>", sections=sections, accounts={"mixture": account}))
    with EventFile(tmp_path / "events.jsonl") as file:
        for each in HAPPENED:
            file.write(each)
    return tmp_path


def progress(time: Any, node: Any, done: Any, loss: Any) -> Any:
    return LauncherEvent(
        time, node, "progress", {"phase": "training", "done": done, "total": 9, "values": {"loss": loss}}
    )


HAPPENED = [
    LauncherEvent(100.0, "", "began", {"versions": {"fednet": "9.9", "torch": "8.8"}}),
    LauncherEvent(110.0, "a1", "started", {"role": "client"}),
    LauncherEvent(110.0, "a2", "started", {"role": "client"}),
    LauncherEvent(110.0, "driver", "started", {"role": "guest"}),
    progress(120.0, "a1", 1, 0.9),
    progress(130.0, "a1", 2, 0.5),
    progress(130.0, "driver", 2, 0.5),
    LauncherEvent(150.0, "a1", "ready", {}),
    progress(160.0, "a1", 3, 0.4),
    LauncherEvent(160.0, "a2", "died", {"cause": "was killed by SIGKILL", "message": "out of <memory>"}),
    LauncherEvent(190.0, "a1", "stopped", {"code": 0}),
    LauncherEvent(200.0, "", "over", {"code": 0, "reason": ""}),
]


class Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its elements are closed in order."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_startendtag(self, tag: Any, attrs: Any) -> None:
        """An empty element opens nothing."""

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        self.links += [value for name, value in attrs if name in {"src", "href", "srcset"}]
        if tag not in {"meta", "img", "line", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: Any) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: Any) -> None:
        self.said.append(data)


def test_the_page_is_whole_and_refers_to_nothing_outside(folder: Any) -> None:
    text = html.write_report(folder).read_text()
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|<script", text)
    assert not list(folder.glob("*.part"))


def test_the_policy_lets_the_page_show_what_it_has_and_do_nothing(folder: Any) -> None:
    """It has styles of its own and pictures as data, which the policy names; all else is forbidden."""
    text = html.write_report(folder).read_text()
    (policy,) = re.findall(
        r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text[: text.index("<style>")]
    )
    parts = policy.replace("&#39;", "'").split("; ")
    assert parts[:3] == ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]
    assert parts[3:] == ["base-uri 'none'", "form-action 'none'"]
    assert not re.findall(r"<(?:script|link|iframe|object|embed|form|base|audio|video)\b|\son\w+=|javascript:", text)
    assert len(re.findall(r"<img ", text)) == len(re.findall(r'<img src="data:', text)) > 0


def test_the_page_says_what_was_found(folder: Any) -> None:
    said = " ".join(Page(html.write_report(folder).read_text()).said)
    for wanted in (
        "Five <sites>",
        "5.951",
        "a note",
        "magnitude",
        "silent",
        "out of <memory>",
        "torch 8.8",
        "1 min 40 s",
        "accuracy by <round>",
        "lost at query 4 of 9",
        "9 queries",
    ):
        assert wanted in said
    assert "gone" not in said
    assert "not complete" not in said


def test_a_section_shows_its_pictures_in_order_and_only_those_that_are_there(folder: Any) -> None:
    _, pictures = read_summary(folder).sections
    shown = html.section_view(folder, pictures)
    assert [(picture.title, picture.pixels) for picture in shown.pictures] == [
        ("real", True),
        ("mixture", True),
        ("magnitude", False),
    ]


def test_the_charts_of_a_section_have_the_axis_that_it_names(folder: Any) -> None:
    results, _ = read_summary(folder).sections
    (chart,) = html.section_view(folder, results).charts
    assert [name for name, _ in chart.legend] == ["a1", "a2"]
    assert ">round</text>" in chart.svg


def test_a_run_in_which_everybody_contributed_has_no_alert(folder: Any) -> None:
    account = ParticipationAccount("round", 2, {"a1": Participation(1, 1, 1, 0), "a2": Participation(2, 1, 2, 0)})
    write_summary(folder, Summary(accounts={"classifier": account}))
    (folder / "events.jsonl").unlink()
    with EventFile(folder / "events.jsonl") as file:
        file.write(LauncherEvent(200.0, "", "over", {"code": 0, "reason": ""}))
    text = html.write_report(folder).read_text()
    assert 'class="alert"' not in text
    assert "complete, 2 rounds" in text


@pytest.mark.parametrize("left", ["events.jsonl", "summary.json", "config.yaml", None])
def test_what_is_not_there_is_left_out(folder: Any, left: Any) -> None:
    for name in ("events.jsonl", "summary.json", "config.yaml"):
        if left in {None, name}:
            (folder / name).unlink()
    assert Page(html.write_report(folder).read_text()).open == []


def test_an_interrupted_run_says_so(folder: Any) -> None:
    with EventFile(folder / "events.jsonl") as file:
        file.write(LauncherEvent(201.0, "", "over", {"code": 130, "reason": "interrupted"}))
    said = " ".join(Page(html.write_report(folder).read_text()).said)
    assert "This run is not complete." in said
    assert "interrupted" in said


@pytest.mark.parametrize("file", ["../secret.png", "config.yaml", "figures", "figures/none.png"])
def test_only_pictures_of_the_folder_are_shown(folder: Any, file: Any) -> None:
    (folder.parent / "secret.png").write_bytes(PIXEL)
    assert html.data_uri(folder, file) == ""


@pytest.mark.parametrize(("suffix", "media"), [("png", "png"), ("gif", "gif"), ("jpg", "jpeg"), ("svg", "svg+xml")])
def test_a_picture_comes_with_its_media_type(folder: Any, suffix: Any, media: Any) -> None:
    (folder / f"p.{suffix}").write_bytes(b"bytes")
    assert html.data_uri(folder, f"p.{suffix}") == f"data:image/{media};base64,Ynl0ZXM="


def test_curves_are_those_of_the_clients() -> None:
    (chart,) = html.progress_charts(HAPPENED)
    assert chart.title == "training: loss"
    assert [name for name, _ in chart.legend] == ["a1"]


def test_a_phase_that_begins_again_goes_on_where_it_had_ended() -> None:
    def told(node: Any, done: Any, phase: Any = "training") -> Any:
        return LauncherEvent(1.0, node, "progress", {"phase": phase, "done": done, "total": 4, "values": {"loss": 0.5}})

    order = [told("a", 1), told("b", 1), told("a", 4), told("a", 1, "other"), told("a", 2), told("b", 3), told("a", 1)]
    steps = [(event.node, event.data["phase"], at) for event, at in html._unrolled(order)]
    assert [at for node, phase, at in steps if (node, phase) == ("a", "training")] == [1, 4, 6, 7]
    assert [at for node, phase, at in steps if node == "b"] == [1, 3]
    assert [at for node, phase, at in steps if phase == "other"] == [1]


def test_a_phase_of_which_only_ends_are_told_goes_on_with_each() -> None:
    ends = [LauncherEvent(1.0, "a", "progress", {"phase": "training", "done": 10, "total": 10})] * 3
    assert [at for _, at in html._unrolled(ends)] == [10, 20, 30]


BROUGHT = {"kind": "diffusers", "path": "m"}


@pytest.mark.parametrize(
    ("nodes", "model", "expected"),
    [
        (2, None, {"data": "digits", "partition": "disjoint"}),
        (
            {"a": None, "b": {"data": None, "model": {"channels": [8]}}},
            None,
            {"data": "digits", "partition": "disjoint"},
        ),
        ({"a": {"data": {"root": "a"}}, "b": {"model": BROUGHT}}, None, {"data": "each site's own"}),
        ({"a": {"data": {"root": "a"}}, "b": {}}, None, {"data": "digits, and sites' own", "partition": "disjoint"}),
        (2, BROUGHT, {"data": "each site's own"}),
    ],
)
def test_a_report_names_the_data_that_sites_share_and_no_other(nodes: Any, model: Any, expected: Any) -> None:
    config = {"nodes": nodes, "data": {"name": "digits"}, "partition": {"kind": "disjoint"}, "model": model}
    facts = dict(html.run_facts(config, []))
    assert {key: facts[key] for key in ("data", "partition") if key in facts} == expected


def test_lanes_show_who_did_what_when() -> None:
    first, second, guest = html.node_lanes(HAPPENED)
    assert [(part.kind, part.start, part.width) for part in first.intervals] == [
        ("starting", 10.0, 10.0),
        ("working", 20.0, 30.0),
        ("ready", 50.0, 10.0),
        ("working", 60.0, 30.0),
    ]
    assert (first.end, first.died) == ("stopped", False)
    assert (second.end, second.died, second.message) == ("was killed by SIGKILL", True, "out of <memory>")
    assert guest.end == ""


def test_no_events_no_lanes() -> None:
    assert html.node_lanes([]) == []


def test_what_lies_between_two_launches_is_not_counted() -> None:
    again = [LauncherEvent(5000.0, "", "began", {}), LauncherEvent(5007.0, "", "over", {"code": 0})]
    assert html.running_time(HAPPENED) == 100.0
    assert html.running_time([*HAPPENED, *again]) == 107.0
