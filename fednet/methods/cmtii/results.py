"""What a run shows and leaves: the arms, traffic, generated pictures, leakage, and every number behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.findings import CmtiiFindings, accuracy, mean_accuracy
from fednet.methods.cmtii.messages import ARMS, CmtiiCapabilities
from fednet.methods.cmtii.persistence import OWN_GRID, generated_grid, site_file_path
from fednet.methods.common.report import non_empty
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
from fednet.reporting.tables import plural

REAL_GRID = "real.png"
"""Test pictures by class, shown beside generated ones."""
BYTES_PER_NUMBER = 4
"""Of a number that is sent."""
TRAFFIC_NOTE = (
    "The last two columns were never sent: they are what one sending of them would have cost. Pictures at a byte a "
    "pixel and channel, numbers at four bytes."
)
JUDGE_NOTE = (
    "Judge, Frechet distance and Inception Score are of a small classifier that was trained on pictures no site has, "
    "not of InceptionV3: compare them within this table only. Real halves: one half of the test pictures of the "
    "generated classes against the other."
)
ATTACK_NOTE = (
    ".5 is chance. Distances are Euclidean, over pixels in [-1, 1], to the pictures that a word was learnt from; "
    "non-members are real pictures of the class that no site trained on, of a site's own data those of its own test. A "
    "generated picture is no copy where it is no "
    "nearer than they are. These measures bound nothing: another attack may do better."
)
OWN_TEST_NOTE = (
    "There are no pictures of all classes to measure with (measure.data): each site counts on its own test, of the "
    "classes that it has, so that what it learns of the others' classes is not seen here."
)
SiteCapabilities = Mapping[str, CmtiiCapabilities]


def summarise(config: CmtiiConfig, capabilities: SiteCapabilities, findings: CmtiiFindings, folder: Path) -> Summary:
    """What a reader is shown of the findings so far."""
    sections = (
        SummarySection(
            title=_accuracy_title(findings),
            table=_arms(findings),
            notes=_arm_descriptions(config, findings),
            charts=_rounds(findings),
        ),
        SummarySection(title="Traffic", table=_bytes(capabilities, findings), notes=_traffic_notes(findings)),
        SummarySection(
            title="Generated pictures",
            table=_generated_quality(findings),
            notes=_features(findings),
            figures=_grids(capabilities, folder),
        ),
        SummarySection(title="Leakage of the pseudo-words", table=_leaks(findings), notes=_attacks(findings)),
    )
    return Summary(
        title=_title(capabilities, findings),
        sections=non_empty(sections),
        accounts={"exchange": _account(capabilities, findings)} if findings.exchanges else {},
    )


def write_metrics(folder: Path, config: CmtiiConfig, capabilities: SiteCapabilities, findings: CmtiiFindings) -> None:
    """Writes TensorBoard's events, arms.csv and metrics.json: every number."""
    with RunRecord(folder, "driver") as record:
        for number, value in enumerate(findings.rounds, 1):
            record.scalar("accuracy/exchange", value, number)
        record.table("arms", [{"arm": arm, "site": site, **values} for arm, site, values in _accuracies(findings)])
    write_json(
        folder / "metrics.json",
        {
            "arms": {arm: _mean(arm_accuracies(findings, arm, "test").values()) for arm in findings.arms},
            "local": {arm: _mean(arm_accuracies(findings, arm, "local").values()) for arm in findings.arms},
            "central": None if findings.central is None else accuracy(findings.central),
            "sites": {arm: arm_accuracies(findings, arm, "test") for arm in findings.arms},
            "counts": findings.arms,
            "rounds": findings.rounds,
            "words": words_per_site(findings),
            "bytes": traffic_bytes(capabilities, findings),
            "evaluations": findings.evaluations,
            "exchanges": [asdict(record) for record in findings.exchanges],
            "capabilities": {name: site.model_dump() for name, site in capabilities.items()},
            "public": config.public,
        },
    )


def arm_accuracies(findings: CmtiiFindings, arm: str, part: str) -> dict[str, float]:
    """The accuracy of an arm on the "test" of all or on each site's "local" one, by site; none where there is none."""
    return {site: accuracy(counts[part]) for site, counts in sorted(findings.arms[arm].items()) if part in counts}


def words_per_site(findings: CmtiiFindings) -> dict[str, int]:
    """How many pseudo-words each site has offered."""
    subjects: dict[str, set[str]] = {}
    for one in findings.exchanges:
        for origin, versions in one.offered.items():
            subjects.setdefault(origin, set()).update(versions)
    return {origin: len(names) for origin, names in sorted(subjects.items())}


def traffic_bytes(capabilities: SiteCapabilities, findings: CmtiiFindings) -> dict[str, dict[str, int]]:
    """What each site sent, and what sending something else once would have cost it, in bytes.

    "words" are the numbers of all its pseudo-words, "wire" its offers on the wire; "pictures" are its training
    pictures as bytes a pixel, "gradient" is one gradient of its image encoder, which is also the size of that model.
    """
    sent = {}
    for name, site in capabilities.items():
        sent[name] = {
            "words": sum(
                round(one.values.get(name, {}).get("numbers", 0)) * BYTES_PER_NUMBER for one in findings.exchanges
            ),
            "wire": sum(one.bytes_sent.get(name, 0) for one in findings.exchanges),
            "pictures": sum(site.histogram) * math.prod(site.shape),
            "gradient": site.parameters * BYTES_PER_NUMBER,
        }
    return sent


def _title(capabilities: SiteCapabilities, findings: CmtiiFindings) -> str:
    sites = f"{plural('site', len(capabilities))}, {sum(words_per_site(findings).values())} pseudo-words"
    if "exchange" not in findings.arms:
        return sites
    reached = {arm: mean_accuracy(counts) for arm, counts in findings.arms.items()}
    if math.isnan(reached["exchange"]):
        return sites
    beside = f", alone {reached['local']:.2f}" if "local" in reached else ""
    title = _accuracy_title(findings)
    return f"{sites}: {title[0].lower()}{title[1:]} {reached['exchange']:.2f}{beside}"


def _shares_a_test(findings: CmtiiFindings) -> bool:
    return any("test" in counts for sites in findings.arms.values() for counts in sites.values())


def _accuracy_title(findings: CmtiiFindings) -> str:
    return "Accuracy over all classes" if _shares_a_test(findings) else "Accuracy on each site's own test"


def _arms(findings: CmtiiFindings) -> SummaryTable | None:
    rows: list[tuple[Cell, ...]] = []
    if not _shares_a_test(findings):
        sites = sorted({site for counts in findings.arms.values() for site in counts})
        for arm in (arm for arm in ARMS if arm in findings.arms):
            own = arm_accuracies(findings, arm, "local")
            rows.append((arm, _mean(own.values()), *(_none_if_nan(own.get(site, math.nan)) for site in sites)))
        return SummaryTable(columns=("arm", "mean", *sites), rows=tuple(rows)) if rows else None
    for arm in (arm for arm in ARMS if arm in findings.arms):
        everywhere, own = arm_accuracies(findings, arm, "test"), arm_accuracies(findings, arm, "local")
        rows.append((arm, mean(everywhere.values()), min(everywhere.values()), _mean(own.values())))
    if findings.central is not None:
        reached = accuracy(findings.central)
        rows.append(("central", reached, reached, None))
    columns = ("arm", "test of all, mean of sites", "worst site", "each site's own test, mean")
    return SummaryTable(columns=columns, rows=tuple(rows)) if rows else None


def _arm_descriptions(config: CmtiiConfig, findings: CmtiiFindings) -> tuple[str, ...]:
    own = () if _shares_a_test(findings) else (OWN_TEST_NOTE,)
    first = (
        "zero-shot: the classes' names, nothing tuned. local: own words, tuned on own pictures. exchange: also the "
        "words of others, and pictures generated from them. control: generated from the tokens of the classes' names. "
        "central: all pictures at one place, a baseline."
    )
    if not config.public:
        return (first, *own)
    return (first, *own, f"Public: {config.public:.0%} of the training pictures, never transposed; all others are.")


def _rounds(findings: CmtiiFindings) -> tuple[SummaryChart, ...]:
    points = tuple((float(number), value) for number, value in enumerate(findings.rounds, 1) if not math.isnan(value))
    if len(points) < 2:
        return ()
    test = "test of all" if _shares_a_test(findings) else "own test"
    return (SummaryChart(title=f"accuracy, {test}, mean of sites", across="round", lines={"exchange": points}),)


def _bytes(capabilities: SiteCapabilities, findings: CmtiiFindings) -> SummaryTable | None:
    if not findings.exchanges:
        return None
    columns = ("site", "words", "bytes of them", "on the wire", "its pictures", "one gradient, or the image encoder")
    words, sent = words_per_site(findings), traffic_bytes(capabilities, findings)
    numbers = {name: (words.get(name, 0), *sent[name].values()) for name in capabilities}
    totals = map(sum, zip(*numbers.values(), strict=True))
    return SummaryTable(columns=columns, rows=(*((name, *row) for name, row in numbers.items()), ("all", *totals)))


def _traffic_notes(findings: CmtiiFindings) -> tuple[str, ...]:
    refused = [
        f"{site} refused {what}: {why}"
        for one in findings.exchanges
        for site, reasons in one.refused.items()
        for what, why in reasons.items()
    ]
    return (TRAFFIC_NOTE, *sorted(set(refused)))


def _generated_quality(findings: CmtiiFindings) -> SummaryTable | None:
    judged = {name: one["worth"] for name, one in sorted(findings.evaluations.items()) if "worth" in one}
    if not judged:
        return None
    keys = ("count", "accuracy", "frechet", "floor", "inception_score")
    columns = ("site", "generated", "judged right", "Frechet", "real halves", "Inception Score")
    rows = [(name, *(one[key] for key in keys)) for name, one in judged.items()]
    return SummaryTable(columns=columns, rows=tuple(rows))


def _features(findings: CmtiiFindings) -> tuple[str, ...]:
    return (JUDGE_NOTE,) if any("worth" in one for one in findings.evaluations.values()) else ()


def _grids(capabilities: SiteCapabilities, folder: Path) -> tuple[SummaryFigure, ...]:
    figures = [("real pictures that no site trained on, by class", REAL_GRID)]
    figures += [
        (f"{name}: generated from received words", site_file_path(name, generated_grid("exchange")))
        for name in capabilities
    ]
    figures += [(f"{name}: generated from its own words", site_file_path(name, OWN_GRID)) for name in capabilities]
    first = next(iter(capabilities))
    figures.append(
        (f"{first}: generated from names' tokens (control)", site_file_path(first, generated_grid("control")))
    )
    return tuple(
        SummaryFigure(title=title, file=file, pixels=True) for title, file in figures if (folder / file).is_file()
    )


def _leaks(findings: CmtiiFindings) -> SummaryTable | None:
    leaks = {name: one["leak"] for name, one in sorted(findings.evaluations.items()) if "leak" in one}
    if not leaks:
        return None
    columns = (
        "site", "words", "AUC loss", "AUC calibrated", "AUC nearest", "members and non-members, each",
        "generated to nearest private, mean", "least", "non-members to nearest private, mean", "least",
    )  # fmt: skip
    keys = (
        "words", "loss", "calibrated", "nearest", "count",
        "generated_mean", "generated_least", "strangers_mean", "strangers_least",
    )  # fmt: skip
    return SummaryTable(columns=columns, rows=tuple((name, *(one[key] for key in keys)) for name, one in leaks.items()))


def _attacks(findings: CmtiiFindings) -> tuple[str, ...]:
    return (ATTACK_NOTE,) if any("leak" in one for one in findings.evaluations.values()) else ()


def _account(capabilities: SiteCapabilities, findings: CmtiiFindings) -> ParticipationAccount:
    account = ParticipationAccount.of("exchange", capabilities)
    for one in findings.exchanges:
        account.enter(tuple(one.offered), one.late, one.lost)
    return account


def _accuracies(findings: CmtiiFindings) -> Sequence[tuple[str, str, dict[str, float | None]]]:
    return [
        (arm, site, {part: _none_if_nan(accuracy(count)) for part, count in counts.items()})
        for arm, sites in findings.arms.items()
        for site, counts in sorted(sites.items())
    ]


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return mean(known) if known else None


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
