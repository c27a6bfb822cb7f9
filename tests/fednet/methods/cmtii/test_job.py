"""The whole job in one process: its results, and that a resumed run finds the same without repeating anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from fednet.api import ExchangePlan, ExchangeRecord, NullProgress, Question
from fednet.data.config import DataConfig
from fednet.errors import DataError
from fednet.methods.cmtii.job import run_job
from fednet.reporting.summary import read_summary

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def run(federation: Make) -> Any:
    """A whole run over three sites."""
    made = federation()
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    return made


def metrics(made: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((made.folder / "metrics.json").read_text())
    return values


def test_the_results_of_a_run(run: Any) -> None:
    found, summary = metrics(run), read_summary(run.folder)
    assert sorted(found["arms"]) == ["control", "exchange", "local", "zero-shot"]
    assert all(0 <= value <= 1 for value in (*found["arms"].values(), found["central"]))
    histograms = {name: site["histogram"] for name, site in found["capabilities"].items()}
    assert found["words"] == {name: sum(count >= 4 for count in counts) for name, counts in histograms.items()}
    sent = {name: one["words"] for name, one in found["bytes"].items()}
    assert sent == {name: 64 * count for name, count in found["words"].items()}
    assert sorted(found["evaluations"]) == ["a1", "a2", "a3"]
    assert summary is not None
    assert summary.sections[0].title == "Accuracy over all classes"
    assert all((run.folder / figure.file).is_file() for section in summary.sections for figure in section.figures)
    assert summary.accounts["exchange"].steps == 4
    assert (run.folder / "sites/a2/words.safetensors").is_file()
    assert (run.folder / "tensorboard/driver/arms.csv").is_file()


def test_a_resumed_run_repeats_nothing(run: Any) -> None:
    first, summary = metrics(run), read_summary(run.folder)

    class Unreachable:
        capabilities = run.network.capabilities

        def ask(self, question: Question) -> dict[str, Tensor]:
            raise AssertionError(question.task)

        def exchange(self, call: ExchangePlan) -> ExchangeRecord:
            raise AssertionError(call.key)

    again = run_job(run.config, Unreachable(), run.folder, 0, NullProgress())  # type: ignore[arg-type]
    assert metrics(run) == first
    assert again == summary


def test_the_same_seed_finds_the_same(run: Any, federation: Make) -> None:
    again = federation()
    run_job(again.config, again.network, again.folder, 0, NullProgress())
    once, twice = (
        {key: metrics(made)[key] for key in ("arms", "local", "central", "evaluations")} for made in (run, again)
    )
    assert once == twice


def test_rounds_replace_words(federation: Make) -> None:
    made = federation(
        rounds=3, learn={"classes": 1}, report={"control": False, "central": False}, disclose={"leakage": None}
    )
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = metrics(made)
    assert len(found["rounds"]) == 3
    assert set(found["words"].values()) == {3}
    assert found["central"] is None
    assert "control" not in found["arms"]


def test_without_pictures_to_measure_with_the_sites_count_on_their_own(federation: Make) -> None:
    made = federation(measure=None, report={"real": True})
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    found, summary = metrics(made), read_summary(made.folder)
    assert set(found["arms"].values()) == {None}
    assert found["central"] is None
    assert all(0 <= value <= 1 for value in found["local"].values())
    assert found["rounds"] == [pytest.approx(found["local"]["exchange"])]
    assert {tuple(one) for one in found["evaluations"].values()} == {("leak",)}
    assert summary.sections[0].title == "Accuracy on each site's own test"
    assert summary.sections[0].table is not None
    assert summary.sections[0].table.columns == ("arm", "mean", "a1", "a2", "a3")
    assert "accuracy on each site's own test" in summary.title
    assert summary.sections[-1].notes[-1] == "There were no pictures to measure with: measure is null."
    assert not (made.folder / "real.png").exists()


def test_other_pictures_to_measure_with_are_refused(run: Any) -> None:
    other = run.config.model_copy(update={"data": DataConfig(size=16)})
    with pytest.raises(DataError, match="1 x 16 x 16"):
        run_job(other, run.network, run.folder, 0, NullProgress())
