"""Tables, notes and numbers of findings: accuracies by site and label, rates of each detector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fednet.api import RoundRecord
from fednet.methods.novelty.config import FlowLabels, NoveltyConfig
from fednet.methods.novelty.findings import (
    OWN_DETECTORS,
    SHARED_DETECTOR,
    ClassifierRound,
    DetectorRound,
    DetectorScores,
    FirstModel,
    NoveltyFindings,
    NoveltyTrials,
)
from fednet.methods.novelty.messages import CLASSIFIER, DETECTOR
from fednet.methods.novelty.results import summarise, write_metrics
from fednet.methods.novelty.validation import ClassifierValidation

TRIALS = NoveltyTrials(
    {
        SHARED_DETECTOR: DetectorScores((0.2, 0.4, 0.6, 1.5), (0.5, 2.0, 3.0, 4.0), 1.0),
        OWN_DETECTORS: DetectorScores((0.1, 0.2, 0.3, 0.4), (5.0, 6.0, 7.0, 8.0), None),
    },
    {"together": {"a1": 0.1}, "alone": {"a1": 0.2}},
)


def closed(model: str, number: int = 1) -> RoundRecord:
    return RoundRecord(number, model, {"a1": 1.0}, {"a1": {"loss": 0.5}}, (), {"a2": "left"}, {}, "abc", 0.1, "a1")


def validation(accuracy: float, digest: str = "abc") -> ClassifierValidation:
    return ClassifierValidation(accuracy, {0: 10}, {0: accuracy}, digest)


def first(other: str = "abc") -> FirstModel:
    seen = {"a2": validation(0.8, other), "a1": validation(0.8)}
    return FirstModel("a1", validation(0.9), seen, {"a1": validation(0.1)}, closed(CLASSIFIER))


@pytest.fixture
def config(small_config: Callable[..., NoveltyConfig]) -> NoveltyConfig:
    return small_config()


def labels(config: NoveltyConfig) -> FlowLabels:
    return config.flow.labels(tuple("0123456789"))


@pytest.mark.parametrize(("digest", "note"), [("abc", "The same bytes"), ("other", "do NOT have the same model")])
def test_the_first_model_is_compared_by_site(config: NoveltyConfig, digest: str, note: str) -> None:
    section = summarise(config, NoveltyFindings(first=first(digest)), ("a1", "a2"), labels(config)).sections[0]
    assert section.table is not None
    assert [row[0] for row in section.table.rows] == ["a1, before", "a1", "a2"]
    assert [row[2] for row in section.table.rows] == [None, 0.1, None]
    assert note in section.notes[0]


def test_rounds_are_shown_with_the_accuracy_on_the_pictures_of_all_and_booked(config: NoveltyConfig) -> None:
    rounds = tuple(
        ClassifierRound(closed(CLASSIFIER, k), {"a1": validation(0.5 + k / 10), "a2": validation(0.4 + k / 10)})
        for k in (1, 2)
    )
    findings = NoveltyFindings(rounds=rounds, detector=(DetectorRound(closed(DETECTOR)),))
    summary = summarise(config, findings, ("a1", "a2"), labels(config))
    (line,) = summary.sections[0].charts[0].lines.values()
    assert [y for _, y in line] == pytest.approx([0.55, 0.65])
    assert summary.title == "2 sites"
    assert summary.accounts[CLASSIFIER].steps == 2
    assert summary.accounts[DETECTOR].lost["a2"].reason == "left"


def test_rates_are_those_at_the_threshold(config: NoveltyConfig, tmp_path: Path) -> None:
    write_metrics(tmp_path, NoveltyFindings(trials=TRIALS))
    rates = json.loads((tmp_path / "metrics.json").read_text())["rates"]
    assert rates[SHARED_DETECTOR] == {"auroc": 0.875, "fpr": 0.25, "tpr": 0.75, "threshold": 1.0}
    assert rates[OWN_DETECTORS] == {"auroc": 1.0, "fpr": None, "tpr": None, "threshold": None}
    summary = summarise(config, NoveltyFindings(trials=TRIALS), ("a1",), labels(config))
    assert "belong" in summary.title
    assert all((tmp_path / figure.file).is_file() for section in summary.sections for figure in section.figures)


def test_a_run_that_measured_nothing_has_no_sections(config: NoveltyConfig, tmp_path: Path) -> None:
    write_metrics(tmp_path, NoveltyFindings())
    assert summarise(config, NoveltyFindings(), ("a1",), labels(config)).sections == ()
    assert json.loads((tmp_path / "metrics.json").read_text())["first"] is None
