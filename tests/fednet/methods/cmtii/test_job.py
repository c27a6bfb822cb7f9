"""The whole job in one process: what it leaves, and that a run that goes on finds the same."""

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
from fednet.methods.common import job as common_job
from fednet.metrics.judge import train_judge
from fednet.reporting.summary import read_summary

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def hasty_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = train_judge
    monkeypatch.setattr(common_job, "train_judge", lambda split, **rest: judge(split, **{**rest, "steps": 3}))


def numbers(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.folder / "metrics.json").read_text())
    return found


def test_the_job_and_what_it_leaves(federation: Make) -> None:
    made = federation()
    summary = run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = numbers(made)
    assert sorted(found["arms"]) == ["control", "exchange", "local", "zero-shot"]
    assert all(0 <= value <= 1 for value in (*found["arms"].values(), found["central"]))
    assert found["words"] == {
        name: sum(n >= 4 for n in card["histogram"]) for name, card in found["capabilities"].items()
    }
    assert {name: one["words"] for name, one in found["bytes"].items()} == {
        n: 64 * k for n, k in found["words"].items()
    }
    assert sorted(found["evaluations"]) == ["a1", "a2", "a3"]
    assert read_summary(made.folder) == summary
    assert summary.sections[0].title == "Accuracy over all classes"
    assert all((made.folder / figure.file).is_file() for section in summary.sections for figure in section.figures)
    assert summary.accounts["exchange"].steps == 4
    assert (made.folder / "sites/a2/words.safetensors").is_file()
    assert (made.folder / "tensorboard/sampler/arms.csv").is_file()


def test_a_run_that_goes_on_does_nothing_twice(federation: Make) -> None:
    made = federation()
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    first = numbers(made)

    class Silence:
        capabilities = made.network.capabilities

        def ask(self, question: Question) -> dict[str, Tensor]:
            raise AssertionError(question.ask)

        def exchange(self, call: ExchangePlan) -> ExchangeRecord:
            raise AssertionError(call.key)

    run_job(made.config, Silence(), made.folder, 0, NullProgress())  # type: ignore[arg-type]
    assert numbers(made) == first


def test_the_same_seed_finds_the_same(federation: Make) -> None:
    once, again = (federation(folder=folder) for folder in ("here", "there"))
    for made in (once, again):
        run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = [{key: numbers(made)[key] for key in ("arms", "local", "central", "evaluations")} for made in (once, again)]
    assert found[0] == found[1]


def test_rounds_replace_words(federation: Make) -> None:
    made = federation(rounds=3, learn={"classes": 1}, report={"control": False, "central": False, "leakage": False})
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = numbers(made)
    assert len(found["rounds"]) == 3
    assert set(found["words"].values()) == {3}
    assert found["central"] is None
    assert "control" not in found["arms"]


def test_other_pictures_to_measure_with_are_refused(federation: Make) -> None:
    made = federation()
    other = made.config.model_copy(update={"data": DataConfig(size=16)})
    with pytest.raises(DataError, match=r"\(1, 16, 16\)"):
        run_job(other, made.network, made.folder, 0, NullProgress())
