"""Tables of the findings: which generators are compared, best first, and what a reader is told of the rare classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.findings import FedBaganFindings, FedBaganFrame
from fednet.methods.fedbagan.messages import GAN, PLAIN_GAN
from fednet.methods.fedbagan.results import arms, summarise, write_metrics
from fednet.metrics.balance import Balance


def balance(frechet: float) -> Balance:
    return Balance(4, frechet, None, {"0": frechet, "1": None}, 0.5, None, 0.1)


@pytest.fixture
def findings() -> FedBaganFindings:
    findings = FedBaganFindings(balance(1.0))
    for number, (distance, frechet) in enumerate(((9.0, 8.0), (3.0, 4.0), (5.0, 2.0))):
        findings = findings.after(GAN, frame=FedBaganFrame(number, distance, balance(frechet)))
    return findings.after(PLAIN_GAN, frame=FedBaganFrame(1, 7.0, balance(16.0)))


def test_arms_stand_best_first_and_real_pictures_last(findings: FedBaganFindings) -> None:
    assert {name: one.frechet for name, one in arms(findings).items()} == {
        "FedBAGAN": 4.0, "FedBAGAN, last round": 2.0, "AE-only": 8.0, "FedGAN": 16.0, "real pictures": 1.0,
    }  # fmt: skip
    assert list(arms(FedBaganFindings(balance(1.0)))) == ["real pictures"]


def test_the_summary_compares_each_with_the_baseline(findings: FedBaganFindings) -> None:
    config = FedBaganConfig.model_validate({"partition": {"kind": "homogeneous", "imbalance": {1: 0.2}}})
    summary = summarise(config, findings, ("a1", "a2"), ("0", "1"))
    assert summary.title == "2 sites, rare: 1 to 0.2"
    worth, by_class = (section.table for section in summary.sections[:2])
    assert worth is not None
    assert by_class is not None
    assert [row[-1] for row in worth.rows] == [0.25, 0.125, 0.5, 1.0, 0.0625]
    assert by_class.rows[0] == ("FedBAGAN", 4.0, None)
    assert "after round 1" in summary.sections[0].notes[0]


def test_without_a_baseline_nothing_is_compared() -> None:
    config = FedBaganConfig.model_validate({"partition": {"kind": "homogeneous"}, "baseline": False})
    summary = summarise(config, FedBaganFindings(balance(1.0)), ("a1",), ("0", "1"))
    assert summary.title == "1 site, no class is made rare"
    assert summary.sections[0].table is not None
    assert summary.sections[0].table.rows[0][-1] is None


def test_all_numbers_are_written(findings: FedBaganFindings, tmp_path: Path) -> None:
    write_metrics(tmp_path, FedBaganConfig(), findings, ("0", "1"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"]["round"] == 1
    assert [frame["distance"] for frame in metrics["frames"][GAN]] == [9.0, 3.0, 5.0]
