"""What the rounds of training loops leave: a row a round, values as means by weight, JSON that every reader reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fednet.api import RoundRecord
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.methods.external_training.results import round_plan, write_results


def record(number: int, values: dict[str, dict[str, float]], **more: Any) -> RoundRecord:
    empty: dict[str, Any] = {"late": (), "lost": {}, "refused": {}}
    sure = {"weights": {"a": 1.0, "b": 3.0}, "digest": f"d{number}", "seconds": 0.5, "leader": "a"}
    return RoundRecord(number, "model", values=values, **{**empty, **sure, **more})


def summary(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text())


def test_every_site_requests_the_same_plan() -> None:
    config = ExternalTrainingConfig(rounds=4)
    assert round_plan(config) == round_plan(config)
    assert round_plan(config).rounds == 4


def test_values_are_averaged_by_weight_over_those_that_measured_them(tmp_path: Path) -> None:
    records = [record(1, {"a": {"loss": 4.0}, "b": {"loss": 0.0}}), record(2, {"a": {"loss": 2.0}, "b": {}})]
    write_results(tmp_path, ExternalTrainingConfig(rounds=3), records, "d2")
    (section,) = summary(tmp_path)["sections"]
    assert section["table"]["columns"] == ["round", "contributors", "weight", "loss"]
    assert section["table"]["rows"] == [[1, 2, 4.0, 1.0], [2, 2, 4.0, 2.0]]
    assert summary(tmp_path)["title"] == "2 of 3 rounds"


def test_a_loss_that_is_no_number_is_a_text_and_the_digest_that_of_the_site(tmp_path: Path) -> None:
    values = {"a": {"loss": float("nan")}, "b": {"loss": float("inf")}}
    write_results(tmp_path, ExternalTrainingConfig(), [record(1, values)], "d3")
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["rounds"][0]["values"] == {"a": {"loss": "nan"}, "b": {"loss": "inf"}}
    assert metrics["digest"] == "d3"  # what the site holds, also where it lacks the last record


def test_no_round_leaves_an_empty_table(tmp_path: Path) -> None:
    write_results(tmp_path, ExternalTrainingConfig(), [], "")
    assert summary(tmp_path)["sections"][0]["table"]["rows"] == []


def test_the_report_says_the_largest_epsilon_of_each_site(tmp_path: Path) -> None:
    config = ExternalTrainingConfig.model_validate({"rounds": 3, "privacy": {"seeded": True}})
    spent = {"epsilon_rdp": 2.0, "epsilon_prv": 1.5, "epsilon_alone": 2.0, "private": 0.0}
    records = [record(1, {"a": {**spent, "epsilon_rdp": 1.0}, "b": spent}), record(2, {"a": spent})]
    write_results(tmp_path, config, records, "d2", {"a": {**spent, "epsilon_rdp": 3.0}})
    rounds, privacy = summary(tmp_path)["sections"]
    assert rounds["table"]["columns"] == ["round", "contributors", "weight"]
    assert privacy["table"]["rows"] == [["a", 3.0, 1.5, 2.0, 1e-5], ["b", 2.0, 1.5, 2.0, 1e-5]]
    assert any(note.startswith("NOT PRIVATE") for note in privacy["notes"])
