"""The summary and the metrics of a run, from made-up findings: totals, what is left out, and what was refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fednet.api import ExchangeRecord
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.findings import CmtiiFindings
from fednet.methods.cmtii.messages import CmtiiCapabilities
from fednet.methods.cmtii.results import arm_accuracies, summarise, traffic_bytes, words_per_site, write_metrics
from fednet.reporting.summary import SummaryTable

CAPABILITIES = {
    name: CmtiiCapabilities(histogram=(3, 4), tests=2, classes=("a", "b"), shape=(1, 8, 8), models="abc", parameters=10)
    for name in ("a1", "a2")
}
QUALITY = {"count": 4, "accuracy": 0.75, "by_class": {"a": 0.75}, "frechet": 1.5, "floor": 1.0, "inception_score": 1.2}
LEAKAGE = {
    **dict.fromkeys(("words", "count"), 2),
    **dict.fromkeys(("loss", "calibrated", "nearest"), 0.5),
    **dict.fromkeys(("generated_mean", "generated_least", "strangers_mean", "strangers_least"), 3.0),
}


def exchange(number: int, versions: dict[str, dict[str, int]], **changes: Any) -> ExchangeRecord:
    return ExchangeRecord(
        key=f"learn-{number}",
        offered=versions,
        absorbed={},
        values={name: {"numbers": 16.0 * len(words)} for name, words in versions.items()},
        bytes_sent={name: 100 * len(words) for name, words in versions.items()},
        refused={},
        late=(),
        lost={},
        seconds=1.0,
        **changes,
    )


EXCHANGES = (
    exchange(1, {"a1": {"a": 1}, "a2": {"a": 1, "b": 1}}),
    exchange(2, {"a1": {"a": 2, "b": 1}, "a2": {}}),
)
COUNTS = {
    "a1": {"test": [[1, 2], [2, 2]], "local": [[1, 1], [0, 0]]},
    "a2": {"test": [[0, 2], [1, 2]], "local": [[0, 0], [0, 0]]},
}
FINDINGS = CmtiiFindings(
    EXCHANGES,
    arms={"zero-shot": COUNTS, "exchange": COUNTS, "local": COUNTS},
    central=[[2, 2], [1, 2]],
    rounds=(0.5, 0.6),
    evaluations={"a1": {"worth": QUALITY, "leak": LEAKAGE}, "a2": {"worth": QUALITY}},
)


def tables(findings: CmtiiFindings, folder: Path) -> dict[str, SummaryTable]:
    sections = summarise(CmtiiConfig(), CAPABILITIES, findings, folder).sections
    return {section.title: section.table for section in sections if section.table is not None}


def columns(table: SummaryTable, row: int) -> dict[str, Any]:
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_words_are_counted_once_in_whatever_versions() -> None:
    assert words_per_site(FINDINGS) == {"a1": 2, "a2": 2}


def test_traffic_is_the_sum_of_all_exchanges() -> None:
    sent = traffic_bytes(CAPABILITIES, FINDINGS)
    assert sent["a1"] == {"words": 3 * 64, "wire": 300, "pictures": 7 * 64, "gradient": 40}
    assert sent["a2"]["wire"] == 200


def test_accuracies_are_by_site() -> None:
    assert arm_accuracies(FINDINGS, "local", "test") == {"a1": 0.75, "a2": 0.25}
    assert math.isnan(arm_accuracies(FINDINGS, "local", "local")["a2"])


def test_the_summary_has_every_arm_and_totals(tmp_path: Path) -> None:
    found = tables(FINDINGS, tmp_path)
    arms, traffic = found["Accuracy over all classes"], found["Traffic"]
    assert [row[0] for row in arms.rows] == ["zero-shot", "local", "exchange", "central"]
    assert columns(arms, 1)["test of all, mean of sites"] == 0.5
    assert columns(arms, 1)["worst site"] == 0.25
    assert columns(arms, 1)["each site's own test, mean"] == 1.0
    assert columns(arms, 3)["worst site"] == 0.75
    assert columns(traffic, 2)["on the wire"] == columns(traffic, 0)["on the wire"] + columns(traffic, 1)["on the wire"]
    assert [row[0] for row in found["Generated pictures"].rows] == ["a1", "a2"]
    assert [row[0] for row in found["Leakage of the pseudo-words"].rows] == ["a1"]


def test_the_title_and_the_chart_follow_the_findings(tmp_path: Path) -> None:
    summary = summarise(CmtiiConfig(), CAPABILITIES, FINDINGS, tmp_path)
    assert summary.title == "2 sites, 4 pseudo-words: accuracy over all classes 0.50, alone 0.50"
    assert summary.sections[0].charts[0].lines == {"exchange": ((1.0, 0.5), (2.0, 0.6))}
    one_round = summarise(CmtiiConfig(), CAPABILITIES, replace(FINDINGS, rounds=(0.5,)), tmp_path)
    assert one_round.sections[0].charts == ()
    assert summary.accounts["exchange"].steps == 2


def test_without_a_test_that_all_share_each_site_s_own_is_shown(tmp_path: Path) -> None:
    own = {site: {"local": counts["local"]} for site, counts in COUNTS.items()}
    findings = replace(FINDINGS, arms={"zero-shot": own, "exchange": own}, evaluations={"a1": {"leak": LEAKAGE}})
    summary = summarise(CmtiiConfig(), CAPABILITIES, findings, tmp_path)
    table = summary.sections[0].table
    assert table is not None
    assert (table.columns, table.rows[0]) == (("arm", "mean", "a1", "a2"), ("zero-shot", 1.0, 1.0, None))
    assert summary.title == "2 sites, 4 pseudo-words: accuracy on each site's own test 1.00"
    assert "Generated pictures" not in tables(findings, tmp_path)
    write_metrics(tmp_path, CmtiiConfig(), CAPABILITIES, replace(findings, central=None))
    assert json.loads((tmp_path / "metrics.json").read_text())["arms"] == {"zero-shot": None, "exchange": None}


def test_sections_without_findings_are_left_out(tmp_path: Path) -> None:
    summary = summarise(CmtiiConfig(), CAPABILITIES, CmtiiFindings(), tmp_path)
    assert summary.sections == ()
    assert summary.accounts == {}


def test_only_pictures_that_exist_are_shown(tmp_path: Path) -> None:
    (tmp_path / "real.png").touch()
    (tmp_path / "sites/a2").mkdir(parents=True)
    (tmp_path / "sites/a2/generated-exchange.png").touch()
    figures = [
        one for part in summarise(CmtiiConfig(), CAPABILITIES, FINDINGS, tmp_path).sections for one in part.figures
    ]
    assert [figure.file for figure in figures] == ["real.png", "sites/a2/generated-exchange.png"]


def test_refused_offers_are_named_once(tmp_path: Path) -> None:
    refused = [replace(one, refused={"a2": {"a1/cat": "no class"}}) for one in EXCHANGES]
    sections = summarise(CmtiiConfig(), CAPABILITIES, replace(FINDINGS, exchanges=tuple(refused)), tmp_path).sections
    notes = next(section.notes for section in sections if section.title == "Traffic")
    assert [note for note in notes if "refused" in note] == ["a2 refused a1/cat: no class"]


@pytest.mark.parametrize("findings", [replace(FINDINGS, central=None, evaluations={}), FINDINGS])
def test_metrics_are_json_without_nan(findings: CmtiiFindings, tmp_path: Path) -> None:
    write_metrics(tmp_path, CmtiiConfig(), CAPABILITIES, findings)
    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert found["central"] == (None if findings.central is None else 0.75)
    assert found["words"] == words_per_site(findings)
    assert sorted(found["capabilities"]) == ["a1", "a2"]
    assert len(found["exchanges"]) == len(findings.exchanges)
