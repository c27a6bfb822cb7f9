"""Shows what a data set holds: a table of its classes, and a line for everything else that is worth knowing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from fednet.data.config import DataConfig
from fednet.data.survey import DataSurvey, ListedImages
from fednet.reporting.tables import plural
from fednet.text import plain_text
from launch.config.schema import DRIVER
from launch.output import open_table

if TYPE_CHECKING:
    from launch.run.data_split import DataSplit

MAX_ROWS = 50
"""Classes in a table; of more the first ones."""
MAX_SHOWN = 8
"""Things in a line, and refused files; of more the first ones."""


def show(console: Console, config: DataConfig, survey: DataSurvey) -> None:
    """Prints a data set: its classes, how it is read, and what of it cannot be."""
    plain = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    plain(outline(config, survey), style="bold")
    if survey.total:
        console.print(class_table(survey))
    for line in notes(config, survey):
        plain(line)
    for line in refusals(survey):
        plain(line, style="red")


def refused(config: DataConfig, survey: DataSurvey) -> str:
    """Why a data set cannot be used, in one sentence; empty where it can."""
    unreadable = survey.files.inspection.refused if survey.files else []
    if not survey.total:
        return f"{_place(config)} holds no image that can be read"
    if unreadable and config.unreadable == "refuse":
        images = f"{len(unreadable)} of {survey.total + len(unreadable)} images of {_place(config)}"
        return f"{images} cannot be read, the first: {unreadable[0]}; mend them, or set data.unreadable: skip"
    return ""


def outline(config: DataConfig, survey: DataSurvey) -> str:
    """One line: which data set, how many images of how many classes, how many files are refused."""
    kinds = plural("class", len(survey.classes)) if survey.classes else "no classes"
    refused = len(survey.files.inspection.refused) if survey.files else 0
    left = f", {refused} that cannot be read" if refused else ""
    return f"{_place(config)}: {plural('image', survey.total)}, {kinds}{left}"


def class_table(survey: DataSurvey) -> Table:
    """The classes with their labels, and how many images each part has of them."""
    table = open_table("label", "class", *survey.counts)
    names = survey.classes or ("",)
    for label, name in enumerate(names[:MAX_ROWS]):
        number = str(label) if survey.classes else "–"
        table.add_row(number, name or "(none)", *(str(counts.get(name, 0)) for counts in survey.counts.values()))
    if len(names) > MAX_ROWS:
        table.add_row("…", f"{len(names) - MAX_ROWS} more", *("" for _ in survey.counts))
    return table


def split_table(split: DataSplit) -> Table:
    """How many pictures are used for what, by site; the driver's are those that samples are measured with."""
    rows = {**split.sites, **({DRIVER: split.measuring} if split.measuring else {})}
    uses = tuple(dict.fromkeys(use for parts in rows.values() for use in parts))
    table = open_table("split", "pictures", *uses)
    for name, parts in rows.items():
        whose = "to measure with" if name == DRIVER else "its own" if name in split.own else "a share of the run's"
        table.add_row(name, whose, *(str(parts.get(use, "–")) for use in uses))
    return table


def notes(config: DataConfig, survey: DataSurvey) -> Iterator[str]:
    """How images are stored and read, and what is left out; nothing of a data set that does not list them."""
    if "all" in survey.counts:
        yield "no test part of its own (train/ and test/)"
    if survey.files is not None:
        yield from _file_notes(config, survey.files)


def refusals(survey: DataSurvey) -> Iterator[str]:
    """The images that cannot be read, each with the reason."""
    refused = survey.files.inspection.refused if survey.files else []
    yield from (f"{plain_text(error.path)}: {error.reason}" for error in refused[:MAX_SHOWN])
    if len(refused) > MAX_SHOWN:
        yield f"{len(refused) - MAX_SHOWN} more"


def _place(config: DataConfig) -> str:
    return str(config.root or config.object or config.name)


def _file_notes(config: DataConfig, files: ListedImages) -> Iterator[str]:
    found = files.inspection
    yield f"stored as {_listed(found.kinds)}"
    yield f"sizes {_listed({f'{width} x {height}': count for (width, height), count in found.sizes.items()})}"
    yield f"read as {_shape(config, files)}"
    if found.conversions:
        yield f"converted: {_listed(found.conversions)}"
    if files.empty:
        yield f"folders without an image: {', '.join(files.empty[:MAX_SHOWN])}"
    if files.others:
        yield f"not looked at: {_listed(files.others)}"
    if files.unsorted:
        yield f"not looked at: {files.unsorted} images without a class"


def _shape(config: DataConfig, files: ListedImages) -> str:
    found = files.inspection
    colour = "RGB" if (config.channels or (3 if found.colour else 1)) == 3 else "grey"
    mixed = (
        f" ({found.colour} of {found.kinds.total()} files have colours)"
        if 0 < found.colour < found.kinds.total()
        else ""
    )
    square = all(width == height for width, height in found.sizes)
    if config.size is not None:
        how = "" if square else f", {config.fit} where they are not square"
        return f"{colour}{mixed}, {config.size} x {config.size}{how}"
    return f"{colour}{mixed}, {'at their own size' if len(found.sizes) <= 1 else 'of several sizes: set data.size'}"


def _listed(counts: Mapping[Any, int]) -> str:
    """Things with their counts, the most frequent first."""
    ordered = Counter(counts).most_common()
    parts = [f"{thing} ({count})" for thing, count in ordered[:MAX_SHOWN]]
    return ", ".join([*parts, *([f"{len(ordered) - MAX_SHOWN} more"] if len(ordered) > MAX_SHOWN else [])]) or "nothing"
