"""What the method's commands print: tables of rounds, of the sites' reports and of validations, and who is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fednet.api import RoundRecord
from fednet.methods.novelty.inference import NoveltyInference
from fednet.methods.novelty.messages import OWN_DETECTOR
from fednet.methods.novelty.services import SiteReports
from fednet.methods.novelty.validation import ClassifierValidation
from fednet.reporting.summary import Cell, SummaryTable
from fednet.reporting.tables import rich_table

DIGEST_CHARACTERS = 16
"""Characters of a digest that are printed."""


def print_rounds(records: Sequence[RoundRecord], console: Console) -> None:
    """A row a round: contributors by weight, mean measurements and the digest; then who is missing and why."""
    measured = sorted({value for record in records for values in record.values.values() for value in values})
    rows = [
        (
            record.number,
            " ".join(f"{name}:{weight:g}" for name, weight in record.weights.items()) or None,
            *(_weighted_mean(record, value) for value in measured),
            record.seconds,
            record.digest[:DIGEST_CHARACTERS],
        )
        for record in records
    ]
    heads = ("round", "contributed, by weight", *measured, "seconds", "model")
    print_table(heads, rows, f"{records[0].model}, in rounds", console)
    for record in records:
        missing = {**dict.fromkeys(record.late, "late"), **record.lost, **record.refused}
        print_missing({f"round {record.number}: {name}": why for name, why in missing.items()}, console)


def print_site_reports(reports: SiteReports, title: str, console: Console) -> None:
    """A row a site, with every value that it reported; then who is missing and why."""
    columns = list(dict.fromkeys(key for values in reports.by_node.values() for key in values))
    rows = [(name, *(_shorten(values.get(key)) for key in columns)) for name, values in reports.by_node.items()]
    print_table(("site", *columns), rows, title, console)
    print_missing(reports.missing, console)


def print_validations(validations: Mapping[str, ClassifierValidation], console: Console) -> None:
    """A row a site: its classifier's accuracy, overall and by label."""
    labels = sorted({label for validation in validations.values() for label in validation.by_label})
    rows = [
        (
            name,
            validation.accuracy,
            validation.pictures,
            *(validation.by_label.get(label) for label in labels),
            validation.digest[:DIGEST_CHARACTERS],
        )
        for name, validation in validations.items()
    ]
    heads = ("site", "accuracy", "pictures", *map(str, labels), "model")
    print_table(heads, rows, "classifier, validated", console)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], title: str, console: Console) -> None:
    """A table with a title, as wide as the terminal allows."""
    table = SummaryTable(columns=tuple(heads), rows=tuple(map(tuple, rows)))
    console.print(rich_table(table, title, console.width))


def joint_note(inference: NoveltyInference) -> str:
    """What decides whether a picture is novel to all sites."""
    own = inference.verdicts.get(OWN_DETECTOR)
    if not inference.verdicts:
        return "novelty is not decided: no detector has a threshold yet, see `fednet novelty calibrate`"
    if not own:
        return "the sites' own detectors have no thresholds: the shared detector decides"
    lowest = min(decision.ratio for decision in own.values())
    if inference.joint is None:
        return (
            f"own detectors: the smallest score is {lowest:.3g} of its site's threshold, and novel is what every site "
            "calls so; a joint threshold comes from `fednet novelty calibrate --images FOLDER`"
        )
    return (
        f"own detectors: the smallest score is {lowest:.3g} of its site's threshold; above {inference.joint:.3g}, "
        "their joint threshold, it is novel"
    )


def print_missing(missing: Mapping[str, str], console: Console) -> None:
    """A line for each site that is missing, with the reason."""
    for name, reason in sorted(missing.items()):
        print_note(f"{name}: {reason}", console)


def print_note(line: str, console: Console) -> None:
    """A dim line of plain text."""
    console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def print_written(path: Path, console: Console) -> None:
    """Names a file that was written."""
    console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def _weighted_mean(record: RoundRecord, value: str) -> float | None:
    """A measurement, averaged by weight over the sites that reported it."""
    pairs = [
        (record.weights.get(name, 1.0), values[value]) for name, values in record.values.items() if value in values
    ]
    total = sum(weight for weight, _ in pairs)
    return sum(weight * number for weight, number in pairs) / total if total else None


def _shorten(value: Any) -> Cell:
    return value[:DIGEST_CHARACTERS] if isinstance(value, str) else value
