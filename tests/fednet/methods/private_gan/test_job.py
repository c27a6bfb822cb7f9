"""The whole job in one process: what it leaves, where it stops, and how it states what is not private."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image

from fednet.api import NullProgress, Question, Replies, RoundPlan, SiteContext
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, Splits
from fednet.errors import DataError, MeasureError, MethodError
from fednet.federated import aggregation, local_network
from fednet.federated.config import Federation
from fednet.methods.common.config import MeasureConfig
from fednet.methods.common.measures import measuring_splits
from fednet.methods.private_gan import job
from fednet.methods.private_gan.job import run_job
from fednet.methods.private_gan.messages import DRAW, GAN, TRAIN, read_private_gan_capabilities
from fednet.methods.private_gan.site import PrivateGanSite
from fednet.metrics.evaluation import evaluate
from fednet.privacy.accounting import Expense, epsilon
from fednet.privacy.ledger import PrivacyLedger
from fednet.reporting.summary import read_summary
from tests.cases import first

Make = Callable[..., Any]


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch) -> Splits:
    """Stripes instead of digits, for the asking side."""

    def part(count: int, seed: int) -> ImageSet:
        random = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 2
        images = torch.full((count, 1, 8, 8), -0.8)
        images[labels == 0, :, ::2] = 0.8
        images[labels == 1, :, :, ::2] = 0.8
        return ImageSet(images + 0.2 * torch.rand(images.shape, generator=random), labels, ("rows", "columns"))

    made = Splits(part(60, 1), part(60, 2), part(60, 3))
    monkeypatch.setattr(job, "measuring_splits", lambda *_: made)
    return made


def numbers(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.folder / "metrics.json").read_text())
    return found


def test_the_job_and_what_it_leaves(federation: Make, splits: Splits) -> None:
    made = federation(classifier={"rounds": 1, "steps": 3}, privacy={"seeded": False})
    summary = run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = numbers(made)
    assert found["private"] is True
    assert found["mark"] == ""
    assert [frame["round"] for frame in found["frames"]] == [0, 1, 2]
    assert len(found["rounds"]) == 2
    assert len(found["classifier_rounds"]) == 1
    assert found["rounds"][1]["values"]["a1"]["epsilon_rdp"] == epsilon([Expense(0.2, 1.0, 6)], 1e-5)
    assert found["privacy"]["a3"]["epsilon_prv"] == epsilon([Expense(0.2, 1.0, 9)], 1e-5, "prv")
    assert 0 <= found["accuracy"] <= 1
    assert found["audit"] == {}
    with Image.open(made.folder / "samples" / "rounds.gif") as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
    assert {part.title for part in summary.sections} == {
        "Privacy", "Samples", "Losses", "Classifier", "Data",
    }  # fmt: skip
    assert summary.accounts[GAN].steps == 2
    assert read_summary(made.folder) == summary
    for part in summary.sections:
        assert all((made.folder / figure.file).is_file() for figure in part.figures)


def test_a_run_with_audits_says_that_it_is_not_private(federation: Make, splits: Splits) -> None:
    made = federation(privacy={"seeded": False}, disclose={"audit": {"pictures": 2, "held_out": 0.3}})
    summary = run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = numbers(made)
    assert set(found["audit"]) == {"a1", "a2", "a3"}
    assert (found["private"], found["mark"]) == (False, "NOT PRIVATE")
    assert "NOT PRIVATE" in summary.title
    assert any("a1, a2, a3 answer, or have answered" in note for note in summary.sections[0].notes)
    assert summary.sections[-1].notes[1].endswith("(disclose.audit).")


def test_the_mark_stands_everywhere(federation: Make, splits: Splits) -> None:
    made = federation(rounds=1)
    summary = run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = numbers(made)
    assert (found["private"], found["mark"]) == (False, "NOT PRIVATE")
    assert "NOT PRIVATE" in summary.title
    text = summary.model_dump_json()
    assert text.count("NOT PRIVATE") >= 5  # the title, every site's row, and a note
    assert all(json.loads(text)["privacy"]["private"] is False for text in made.capabilities.values())
    assert found["rounds"][0]["values"]["a2"]["private"] == 0.0


def test_it_stops_where_the_budget_is_spent_and_says_so(federation: Make, splits: Splits) -> None:
    budget = epsilon([Expense(0.2, 1.0, 8)], 1e-5) + 1e-6
    made = federation(rounds=30, privacy={"budget": budget}, report={"every": 4})
    summary = run_job(made.config, made.network, made.folder, 0, NullProgress())
    found = numbers(made)
    assert len(found["rounds"]) == 3
    assert [one["values"]["a1"]["steps"] for one in found["rounds"]] == [3, 3, 2]
    assert all(site["epsilon_rdp"] <= budget for site in found["privacy"].values())
    assert found["stopped"] == "the privacy budget is spent after 3 rounds of the gan"
    assert "Stopped" in summary.sections[0].notes[0]


def test_a_run_that_goes_on_does_nothing_twice(federation: Make, splits: Splits) -> None:
    made = federation()
    first = run_job(made.config, made.network, made.folder, 0, NullProgress())
    before = (made.folder / "privacy" / "a1.json").read_bytes()
    again = federation()
    assert run_job(again.config, again.network, again.folder, 0, NullProgress()).sections[1:] == first.sections[1:]
    assert (made.folder / "privacy" / "a1.json").read_bytes() == before


class Ending:
    """A network that fails, and may stay silent then, after some rounds."""

    def __init__(self, made: Any, rounds: int, *, silent: bool = False) -> None:
        self.made, self.rounds, self.silent, self.ended = made, rounds, silent, False
        self.capabilities = made.capabilities

    def ask(self, question: Question) -> Replies:
        if self.ended and self.silent:
            raise ConnectionError("nobody is left")
        replies: Replies = self.made.network.ask(question)
        return replies

    def run_rounds(self, plan: RoundPlan) -> Any:
        possible, self.rounds = min(plan.rounds, self.rounds), self.rounds - plan.rounds
        records = self.made.network.run_rounds(replace(plan, rounds=possible)) if possible else ()
        if self.rounds < 0:
            self.ended = True
            raise ConnectionError("the round cannot be held")
        return records


def spent(made: Any, level: Literal["example", "client"] = "client") -> float:
    """The largest epsilon of all ledgers."""
    return max(PrivacyLedger(path, level).spent(1e-5).rdp for path in (made.folder / "privacy").glob("*.json"))


CLIENT = {"privacy": {"level": "client", "seeded": False}, "share": {"weight": "equal"}, "report": {"every": 2}}


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_run_that_fails_is_headlined_with_the_ledgers(federation: Make, splits: Splits, rounds: int) -> None:
    made = federation(rounds=8, **CLIENT)
    with pytest.raises(ConnectionError, match="cannot be held"):
        run_job(made.config, Ending(made, rounds), made.folder, 0, NullProgress())  # type: ignore[arg-type]
    assert f"epsilon {spent(made) if rounds else 0.0:.3g} at delta" in read_summary(made.folder).title


def test_where_nobody_can_be_asked_any_more_the_headline_is_a_bound(federation: Make, splits: Splits) -> None:
    made = federation(rounds=8, **CLIENT)
    with pytest.raises(ConnectionError, match="cannot be held"):
        run_job(made.config, Ending(made, 3, silent=True), made.folder, 0, NullProgress())  # type: ignore[arg-type]
    summary, bound = read_summary(made.folder), epsilon([Expense(1.0, 1.0, 4)], 1e-5)
    assert spent(made) == epsilon([Expense(1.0, 1.0, 3)], 1e-5) < bound
    assert f"epsilon at most {bound:.3g} at delta" in summary.title
    assert "a1, a2, a3 count rounds that were under way" in summary.sections[0].notes[0]


def test_pictures_that_cannot_be_measured_hide_no_expense(
    federation: Make, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headline stayed at epsilon 0 of the untrained models, whose pictures were the last that could be measured."""
    made, measured = federation(rounds=4, **CLIENT), evaluate
    taken: list[int] = []

    def once(*given: Any, **named: Any) -> Any:
        taken.append(1)
        if len(taken) > 1:
            raise MeasureError("40 of 40 pictures hold NaN")
        return measured(*given, **named)

    monkeypatch.setattr(job, "evaluate", once)
    with pytest.raises(MeasureError):
        run_job(made.config, made.network, made.folder, 0, NullProgress())
    assert spent(made) == epsilon([Expense(1.0, 1.0, 2)], 1e-5)
    assert f"epsilon {spent(made):.3g} at delta" in read_summary(made.folder).title


def test_a_driver_that_comes_later_believes_no_old_card(federation: Make, splits: Splits) -> None:
    made = federation(rounds=2, **CLIENT)
    made.network.run_rounds(RoundPlan("before", GAN, TRAIN, 3, made.config.federation))
    with pytest.raises(ConnectionError):
        run_job(made.config, Ending(made, 0), made.folder, 0, NullProgress())  # type: ignore[arg-type]
    assert f"epsilon {spent(made):.3g} at delta" in read_summary(made.folder).title


def test_an_aggregate_of_zeros_is_seen(federation: Make, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check against a federation that does nothing, as the source's."""

    def worth(folder: str) -> float:
        made = federation(folder=folder, rounds=1)
        run_job(made.config, made.network, made.folder, 0, NullProgress())
        return float(numbers(made)["frames"][-1]["frechet"])

    right, whole = worth("right"), aggregation.aggregate
    monkeypatch.setattr(
        local_network, "aggregate", lambda *given: {k: torch.zeros_like(v) for k, v in whole(*given).items()}
    )
    assert worth("zeros") != right


@pytest.mark.parametrize("server", first(2, ["momentum", "adam", "yogi", "adagrad"]))
def test_batch_norm_survives_a_server_optimiser(federation: Make, server: str) -> None:
    """Stepped like weights, the running variances fell below 0 in the second round, and every picture was NaN."""
    made = federation(model={"kind": "dcgan"}, privacy={"level": "none", "seeded": False}, train={"steps": 20})
    made.network.run_rounds(RoundPlan("all", GAN, TRAIN, 2, Federation.model_validate({"server": {"kind": server}})))
    state = made.sites["a1"].states.current_state(GAN)
    assert min(float(value.min()) for name, value in state.items() if name.endswith("running_var")) >= 0.0
    (pictures,) = made.network.ask(Question(DRAW, {"latents": torch.randn(8, 4)}, to=("a1",))).by_node.values()
    assert bool(torch.isfinite(pictures["images"]).all())


def test_what_does_not_fit_is_refused(federation: Make) -> None:
    made = federation()
    measured = made.config.model_copy(update={"measure": MeasureConfig(data=DataConfig(size=4), judge_steps=2)})
    with pytest.raises(DataError, match=r"has pictures 1 x 4 x 4, a1 has 1 x 8 x 8"):
        measuring_splits(measured, read_private_gan_capabilities(made.capabilities))
    with pytest.raises(MethodError, match="no site answers"):
        read_private_gan_capabilities({})
    with pytest.raises(MethodError, match="has no capabilities"):
        read_private_gan_capabilities({"a1": "{}"})


def test_a_site_with_data_of_its_own_keeps_all_of_it(tmp_path: Path, federation: Make) -> None:
    config = federation().config
    site = SiteContext("a1", 0, 3, 0, "cpu", tmp_path)
    shared, own = (
        PrivateGanSite.from_overrides(config, site),
        PrivateGanSite.from_overrides(config, site, {"data": {"limit": 50}}),
    )
    counts = [json.loads(site.prepare(NullProgress()))["pictures"] for site in (shared, own)]
    assert counts[1] == 50
    assert counts[0] == pytest.approx(1077 / 3, abs=10)
