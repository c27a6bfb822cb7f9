"""The report of a run: one self-contained HTML file, made from the run's folder alone.

It can be made at any time, of an interrupted run, too: what is missing is left out. Knows the names of the folder's
files and the kinds of events; no process and no method. The page is `templates/report.html`.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fednet.files import write_whole
from fednet.models.config import BROUGHT_KINDS
from fednet.reporting import summary, tables
from fednet.reporting.summary import SummarySection
from launch.config.document import parse
from launch.report import charts
from launch.run import events
from launch.run.events import RUN_NODE, LauncherEvent
from launch.run.folder import CONFIG, EVENTS, REPORT

_MEDIA = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".svg": "image/svg+xml",
}  # fmt: skip
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""What a browser may do with the page: show its own styles and its pictures; run nothing, fetch and send nothing."""

_LANES = {"started": "starting", "joined": "starting", "progress": "working", "ready": "ready"}
_ENDS = frozenset({"ended", "stopped", "died"})


@dataclass(frozen=True)
class ReportPicture:
    """A picture with its heading, as a data URI; whether its pixels stay sharp when it is enlarged."""

    title: str
    uri: str
    pixels: bool = False


@dataclass(frozen=True)
class ReportChart:
    """A chart as SVG, with the names and colours of its lines."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportSection:
    """A section of the summary, with its pictures and charts rendered.

    Attributes:
        section: the section.
        numeric: for each column of its table whether it holds numbers only.
        pictures: those of its figures that are there.
        charts: its charts.
    """

    section: SummarySection
    numeric: tuple[bool, ...]
    pictures: tuple[ReportPicture, ...]
    charts: tuple[ReportChart, ...]


@dataclass(frozen=True)
class LaneInterval:
    """A part of a lane: what a node did; start and width in percent of the run."""

    kind: str
    start: float
    width: float


@dataclass(frozen=True)
class NodeLane:
    """One node's timeline.

    Attributes:
        node: its name.
        intervals: what it did when.
        end: how it ended; empty while it runs.
        died: whether it failed.
        message: its last message, if it failed.
    """

    node: str
    intervals: tuple[LaneInterval, ...]
    end: str = ""
    died: bool = False
    message: str = ""


def write_report(folder: Path) -> Path:
    """Writes the report of a run into its folder.

    Raises:
        OSError: the folder cannot be read or written.
        ConfigError: its configuration is not YAML.
    """
    happened = list(events.read_events(folder / EVENTS))
    text = (folder / CONFIG).read_text("utf-8") if (folder / CONFIG).is_file() else ""
    config = parse(text, CONFIG).values if text else {}
    results = summary.read_summary(folder)
    page = _environment().get_template("report.html").render(
        policy=CONTENT_SECURITY_POLICY,
        name=config.get("name", folder.name),
        config=config,
        config_text=text,
        title=results.title,
        parts=[section_view(folder, section) for section in results.sections],
        accounts=results.accounts,
        partial=tables.incomplete_participation(results),
        charts=progress_charts(happened),
        lanes=node_lanes(happened),
        facts=run_facts(config, happened),
        **_run_interval(happened),
    )  # fmt: skip
    path = folder / REPORT
    write_whole(path, page.encode(), shared=True)
    return path


def section_view(folder: Path, section: SummarySection) -> ReportSection:
    """A section with its pictures read and its charts drawn."""
    pictures = [ReportPicture(figure.title, data_uri(folder, figure.file), figure.pixels) for figure in section.figures]
    return ReportSection(
        section,
        tuple(tables.numeric_columns(section.table)) if section.table else (),
        tuple(picture for picture in pictures if picture.uri),
        tuple(_chart(chart.title, chart.across, chart.lines) for chart in section.charts),
    )


def data_uri(folder: Path, file: str) -> str:
    """A picture of the folder as a data URI; empty for what is no picture, not there or not below the folder."""
    path = (folder / file).resolve()
    media = _MEDIA.get(path.suffix.lower())
    if media is None or not path.is_file() or not path.is_relative_to(folder.resolve()):
        return ""
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def progress_charts(happened: Sequence[LauncherEvent]) -> list[ReportChart]:
    """A chart for every measurement that clients reported with their progress, over the units of the phase.

    A phase that a client begins again (for example in the next round) continues where it ended.
    """
    guests = {event.node for event in happened if event.data.get("role") == "guest"}
    series_by_chart: dict[tuple[str, str], dict[str, list[charts.ChartPoint]]] = defaultdict(lambda: defaultdict(list))
    for event, done in _unrolled([event for event in happened if event.kind == "progress"]):
        if event.node not in guests:
            for value, number in event.data.get("values", {}).items():
                series_by_chart[event.data["phase"], value][event.node].append((done, float(number)))
    return [
        _chart(f"{phase}: {value}", "step", {name: series[name] for name in sorted(series)})
        for (phase, value), series in series_by_chart.items()
        if any(len(points) > 1 for points in series.values())
    ]


def _unrolled(progress: Sequence[LauncherEvent]) -> Iterator[tuple[LauncherEvent, int]]:
    """Each event with all units of its phase that its node has done so far, over all its repetitions."""
    before: dict[tuple[str, str], tuple[int, int]] = {}
    for event in progress:
        key, done = (event.node, event.data["phase"]), int(event.data["done"])
        start, last = before.get(key, (0, 0))
        if done < last or (done == last and done == event.data["total"]):  # the end of one is told once
            start += last
        before[key] = start, done
        yield event, start + done


def _chart(title: str, across: str, series: Mapping[str, Sequence[charts.ChartPoint]]) -> ReportChart:
    legend = tuple((name, charts.colour(number)) for number, name in enumerate(series))
    return ReportChart(title, Markup(charts.line_chart(series, across, title)), legend)  # noqa: S704 - charts escapes


def node_lanes(happened: Sequence[LauncherEvent]) -> list[NodeLane]:
    """What each node did when, in the order in which they started."""
    if not happened:
        return []
    start, end = happened[0].time, happened[-1].time
    names = list(dict.fromkeys(event.node for event in happened if event.kind == "started"))
    return [_lane(name, [event for event in happened if event.node == name], start, end) for name in names]


def _lane(name: str, own: Sequence[LauncherEvent], start: float, end: float) -> NodeLane:
    turns: list[tuple[float, str]] = []
    ready = False
    for event in own:
        ready = ready or event.kind == "ready"
        kind = _lane_kind(event, ready)
        if kind is not None and (not turns or turns[-1][1] != kind):
            turns.append((event.time, kind))
    turns.append((end, ""))
    span = (end - start) or 1.0
    intervals = tuple(
        LaneInterval(kind, 100 * (begin - start) / span, 100 * (until - begin) / span)
        for (begin, kind), (until, _) in pairwise(turns)
        if kind
    )
    last = next((event for event in reversed(own) if event.kind in _ENDS), None)
    if last is None:
        return NodeLane(name, intervals)
    how, message = str(last.data.get("cause") or last.kind), str(last.data.get("message", ""))
    return NodeLane(name, intervals, how, last.kind == "died", message)


def _lane_kind(event: LauncherEvent, ready: bool) -> str | None:
    """A node's state from an event on; None where the event does not change it.

    A node that was ready once does not start again, and works only in the middle of a phase.
    """
    kind = _LANES.get(event.kind, "" if event.kind in _ENDS else None)
    if not ready or kind in {None, ""}:
        return kind
    busy = kind == "working" and event.data["done"] < event.data["total"]
    return "working" if busy else "ready"


def run_facts(config: Mapping[str, Any], happened: Sequence[LauncherEvent]) -> list[tuple[str, str]]:
    """The first facts of a report, as name and value."""
    nodes = config.get("nodes", 0)
    facts = {
        "method": config.get("method", ""),
        "nodes": nodes if isinstance(nodes, int) else len(nodes),
        **_data_facts(config, list(nodes.values()) if isinstance(nodes, dict) else [{}]),
        "seed": config.get("seed", ""),
    }
    if len(happened) > 1:
        facts["took"] = _duration(running_time(happened))
    return [(name, str(value)) for name, value in facts.items() if value not in {"", None}]


def _data_facts(config: Mapping[str, Any], entries: Sequence[Mapping[str, Any] | None]) -> dict[str, str]:
    """The data set and how it is divided: of sites that share one; others have their own, or bring a trained model."""
    data, model = config.get("data"), config.get("model")
    kinds = [((entry or {}).get("model") or model or {}).get("kind", "unet") for entry in entries]
    own = [bool((one or {}).get("data")) or kind in BROUGHT_KINDS for one, kind in zip(entries, kinds, strict=True)]
    if not isinstance(data, dict) or not entries:
        return {}
    if all(own):
        return {"data": "each site's own"}
    shared = str(data.get("name", ""))
    return {
        "data": f"{shared}, and sites' own" if any(own) else shared,
        "partition": (config.get("partition") or {}).get("kind", ""),
    }


def running_time(happened: Sequence[LauncherEvent]) -> float:
    """For how many seconds a run was at work: the sum over its launches, without what lies between them."""
    total, start, last = 0.0, happened[0].time, happened[0].time
    for event in happened:
        if event.node == RUN_NODE and event.kind == "began":
            total, start = total + last - start, event.time
        last = event.time
    return total + last - start


def _run_interval(happened: Sequence[LauncherEvent]) -> dict[str, Any]:
    """How the run began and ended."""
    began = next((event for event in happened if event.node == RUN_NODE and event.kind == "began"), None)
    over = next((event for event in reversed(happened) if event.node == RUN_NODE and event.kind == "over"), None)
    when = datetime.fromtimestamp(happened[0].time).astimezone().strftime("%d %B %Y, %H:%M") if happened else ""
    return {
        "when": when,
        "versions": dict(began.data.get("versions", {})) if began else {},
        "complete": over is not None and over.data.get("code") == 0,
        "reason": str(over.data.get("reason", "")) if over else "the run has not ended",
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("launch.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = tables.format_cell
    environment.globals["colour"] = charts.colour
    environment.globals["plural"] = tables.plural
    return environment
