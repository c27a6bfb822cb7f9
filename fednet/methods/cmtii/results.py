"""What a run shows and leaves: the arms, what travelled, what was painted, what words tell, and every number of it.

Computes nothing that it does not write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.messages import ARMS, CmtiiCapabilities
from fednet.methods.cmtii.persistence import site_file_path
from fednet.methods.cmtii.pipeline import CmtiiFindings, accuracy
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.summary import (
    Cell,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummaryFigure,
    SummarySection,
    SummaryTable,
)

REAL_GRID = "real.png"
"""Test pictures by class, beside which painted ones are shown."""
BYTES_PER_NUMBER = 4
"""Bytes of a number that travels."""
TRAFFIC_NOTE = (
    "The last two columns were never sent: they are what one sending of them would have cost. Pictures at a byte a "
    "pixel and channel, numbers at four bytes."
)
JUDGE_NOTE = (
    "Judge, Frechet distance and Inception Score are of a small classifier that was trained on pictures no site has, "
    "not of InceptionV3: compare them within this table only. Real halves: one half of the test pictures of the "
    "painted classes against the other."
)
ATTACK_NOTE = (
    ".5 is chance. Distances are Euclidean, over pixels in [-1, 1], to the pictures that a word was learnt from; "
    "strangers are real pictures of the class that nobody has learnt from. What is painted is no copy where it is no "
    "nearer than they are. These measures bound nothing: another attack may do better."
)
CmtiiCards = Mapping[str, CmtiiCapabilities]


def summarise(config: CmtiiConfig, capabilities: CmtiiCards, found: CmtiiFindings, folder: Path) -> Summary:
    """What a reader is shown of what there is so far."""
    sections = (
        SummarySection(
            title="Accuracy over all classes",
            table=_arms(found),
            notes=_arm_descriptions(config),
            charts=_rounds(found),
        ),
        SummarySection(title="What travelled", table=_bytes(capabilities, found), notes=_prices(found)),
        SummarySection(
            title="Painted pictures",
            table=_generated_quality(found),
            notes=_features(found),
            figures=_grids(capabilities, folder),
        ),
        SummarySection(title="What words tell of the pictures behind them", table=_leaks(found), notes=_attacks(found)),
    )
    return Summary(
        title=_title(capabilities, found),
        sections=tuple(part for part in sections if part.table or part.figures or part.charts),
        accounts={"exchange": _account(capabilities, found)} if found.exchanges else {},
    )


def write_metrics(folder: Path, config: CmtiiConfig, capabilities: CmtiiCards, found: CmtiiFindings) -> None:
    """Writes TensorBoard's events, arms.csv and metrics.json: every number, for whoever computes on with them."""
    with RunRecord(folder, "sampler") as record:
        for number, value in enumerate(found.rounds, 1):
            record.scalar("accuracy/exchange", value, number)
        record.table("arms", [{"arm": arm, "site": site, **values} for arm, site, values in _accuracies(found)])
    write_json(
        folder / "metrics.json",
        {
            "arms": {arm: mean(arm_accuracies(found, arm, "test").values()) for arm in found.arms},
            "local": {arm: _mean(arm_accuracies(found, arm, "local").values()) for arm in found.arms},
            "central": None if found.central is None else accuracy(found.central),
            "sites": {arm: arm_accuracies(found, arm, "test") for arm in found.arms},
            "counts": found.arms,
            "rounds": found.rounds,
            "words": words_per_site(found),
            "bytes": traffic_bytes(capabilities, found),
            "appraisals": found.site_evaluations,
            "exchanges": found.exchanges,
            "cards": {name: card.model_dump() for name, card in capabilities.items()},
            "public": config.public,
        },
    )


def arm_accuracies(found: CmtiiFindings, arm: str, part: str) -> dict[str, float]:
    """The accuracy of an arm on the "test" of all or on each site's "local" one, by site."""
    return {site: accuracy(counts[part]) for site, counts in sorted(found.arms[arm].items())}


def words_per_site(found: CmtiiFindings) -> dict[str, int]:
    """How many words each site has taught."""
    subjects: dict[str, set[str]] = {}
    for one in found.exchanges:
        for origin, versions in one["offered"].items():
            subjects.setdefault(origin, set()).update(versions)
    return {origin: len(names) for origin, names in sorted(subjects.items())}


def traffic_bytes(capabilities: CmtiiCards, found: CmtiiFindings) -> dict[str, dict[str, int]]:
    """What each site sent, and what sending something else once would have cost it, in bytes.

    "words" are the numbers of all its words, "wire" all that its offers took on the wire; "pictures" are its training
    pictures as bytes a pixel, "gradient" is one gradient of its image encoder, which is also the size of that model.
    """
    sent = {}
    for name, card in capabilities.items():
        sent[name] = {
            "words": sum(
                round(one["values"].get(name, {}).get("numbers", 0)) * BYTES_PER_NUMBER for one in found.exchanges
            ),
            "wire": sum(one["sent"].get(name, 0) for one in found.exchanges),
            "pictures": sum(card.histogram) * math.prod(card.shape),
            "gradient": card.parameters * BYTES_PER_NUMBER,
        }
    return sent


def _title(capabilities: CmtiiCards, found: CmtiiFindings) -> str:
    sites = f"{len(capabilities)} sites, {sum(words_per_site(found).values())} words"
    if "exchange" not in found.arms:
        return sites
    reached = {arm: mean(arm_accuracies(found, arm, "test").values()) for arm in found.arms}
    beside = f", alone {reached['local']:.2f}" if "local" in reached else ""
    return f"{sites}: accuracy over all classes {reached['exchange']:.2f}{beside}"


def _arms(found: CmtiiFindings) -> SummaryTable | None:
    rows: list[tuple[Cell, ...]] = []
    for arm in (arm for arm in ARMS if arm in found.arms):
        everywhere, own = arm_accuracies(found, arm, "test"), arm_accuracies(found, arm, "local")
        rows.append((arm, mean(everywhere.values()), min(everywhere.values()), _mean(own.values())))
    if found.central is not None:
        reached = accuracy(found.central)
        rows.append(("central", reached, reached, None))
    heads = ("arm", "test of all, mean of sites", "worst site", "each site's own test, mean")
    return SummaryTable(columns=heads, rows=tuple(rows)) if rows else None


def _arm_descriptions(config: CmtiiConfig) -> tuple[str, ...]:
    first = (
        "zero-shot: the classes' names, nothing tuned. local: own words, tuned on own pictures. exchange: also the "
        "words of others, and pictures painted from them. control: painted from names' tokens that nobody has learnt. "
        "central: all pictures at one place, a bound."
    )
    if not config.public:
        return (first,)
    return (first, f"Public: {config.public:.0%} of the training pictures, never transposed; all others are.")


def _rounds(found: CmtiiFindings) -> tuple[SummaryChart, ...]:
    if len(found.rounds) < 2:
        return ()
    points = tuple((float(number), value) for number, value in enumerate(found.rounds, 1))
    return (SummaryChart(title="accuracy, test of all, mean of sites", across="round", lines={"exchange": points}),)


def _bytes(capabilities: CmtiiCards, found: CmtiiFindings) -> SummaryTable | None:
    if not found.exchanges:
        return None
    heads = ("site", "words", "bytes of them", "on the wire", "its pictures", "one gradient, or the image encoder")
    words, sent = words_per_site(found), traffic_bytes(capabilities, found)
    numbers = {name: (words.get(name, 0), *sent[name].values()) for name in capabilities}
    totals = map(sum, zip(*numbers.values(), strict=True))
    return SummaryTable(columns=heads, rows=(*((name, *row) for name, row in numbers.items()), ("all", *totals)))


def _prices(found: CmtiiFindings) -> tuple[str, ...]:
    refused = [
        f"{site} refused {what}: {why}"
        for one in found.exchanges
        for site, reasons in one["refused"].items()
        for what, why in reasons.items()
    ]
    return (TRAFFIC_NOTE, *sorted(set(refused)))


def _generated_quality(found: CmtiiFindings) -> SummaryTable | None:
    if not found.site_evaluations:
        return None
    keys = ("count", "accuracy", "frechet", "floor", "inception_score")
    heads = ("site", "painted", "judged right", "Frechet", "real halves", "Inception Score")
    rows = [(name, *(one["worth"][key] for key in keys)) for name, one in sorted(found.site_evaluations.items())]
    return SummaryTable(columns=heads, rows=tuple(rows))


def _features(found: CmtiiFindings) -> tuple[str, ...]:
    return (JUDGE_NOTE,) if found.site_evaluations else ()


def _grids(capabilities: CmtiiCards, folder: Path) -> tuple[SummaryFigure, ...]:
    there = [("real pictures that nobody has learnt from, by class", REAL_GRID)]
    there += [
        (f"{name}: painted from received words", site_file_path(name, "painted-exchange.png")) for name in capabilities
    ]
    there += [(f"{name}: painted from its own words", site_file_path(name, "taught.png")) for name in capabilities]
    first = next(iter(capabilities))
    there.append((f"{first}: painted from names' tokens (control)", site_file_path(first, "painted-control.png")))
    return tuple(
        SummaryFigure(title=title, file=file, pixels=True) for title, file in there if (folder / file).is_file()
    )


def _leaks(found: CmtiiFindings) -> SummaryTable | None:
    leaks = {name: one["leak"] for name, one in sorted(found.site_evaluations.items()) if "leak" in one}
    if not leaks:
        return None
    heads = (
        "site", "words", "AUC loss", "AUC calibrated", "AUC nearest", "members and strangers, each",
        "painted to nearest private, mean", "least", "strangers to nearest private, mean", "least",
    )  # fmt: skip
    keys = (
        "words", "loss", "calibrated", "nearest", "count",
        "painted_mean", "painted_least", "strangers_mean", "strangers_least",
    )  # fmt: skip
    return SummaryTable(columns=heads, rows=tuple((name, *(one[key] for key in keys)) for name, one in leaks.items()))


def _attacks(found: CmtiiFindings) -> tuple[str, ...]:
    return (ATTACK_NOTE,) if any("leak" in one for one in found.site_evaluations.values()) else ()


def _account(capabilities: CmtiiCards, found: CmtiiFindings) -> ParticipationAccount:
    account = ParticipationAccount.of("call", capabilities)
    for one in found.exchanges:
        account.enter(tuple(one["offered"]), one["late"], one["lost"])
    return account


def _accuracies(found: CmtiiFindings) -> Sequence[tuple[str, str, dict[str, float | None]]]:
    return [
        (arm, site, {part: _none_if_nan(accuracy(counts[part])) for part in ("test", "local")})
        for arm, sites in found.arms.items()
        for site, counts in sorted(sites.items())
    ]


def _mean(values: Any) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return mean(known) if known else None


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
