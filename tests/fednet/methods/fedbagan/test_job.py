"""The whole job in one process: its stages, what it leaves, that it goes on where it was, and whom it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fednet.api import NullProgress, RoundPlan, RoundRecord
from fednet.errors import DataError, MethodError
from fednet.federated.state import unpack
from fednet.methods.fedbagan.checkpoint import GeneratorCheckpoint
from fednet.methods.fedbagan.job import run_job
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, MOMENTS, PLAIN_GAN
from fednet.reporting.samples import read_samples
from fednet.reporting.summary import read_summary

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def done(whole: Make) -> tuple[Any, dict[str, Any]]:
    made = whole()
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    return made, json.loads((made.folder / "metrics.json").read_text())


def test_all_stages_are_held_by_everybody(done: tuple[Any, dict[str, Any]]) -> None:
    _, metrics = done
    rounds = {model: len(held) for model, held in metrics["rounds"].items()}
    assert rounds[AUTOENCODER] == 2
    assert rounds[MOMENTS] == 1
    assert rounds[GAN] in (3, 4)  # founded, trained twice, and perhaps the best given to all
    assert rounds[PLAIN_GAN] == 4
    trained = [one for held in metrics["rounds"].values() for one in held if one["weights"]]
    assert all(set(one["weights"]) == {"a1", "a2", "a3"} for one in trained)


def test_every_kind_of_pictures_is_measured_alike(done: tuple[Any, dict[str, Any]]) -> None:
    _, metrics = done
    assert set(metrics["arms"]) == {"FedBAGAN", "FedBAGAN, last round", "AE-only", "FedGAN", "real pictures"}
    assert {one["count"] for one in metrics["arms"].values()} == {400}
    assert metrics["rare"] == [7]
    assert all(set(one["by_class"]) == set("0123456789") for one in metrics["arms"].values())
    assert metrics["arms"]["AE-only"] == metrics["frames"][GAN][0]["worth"]


def test_the_best_is_chosen_by_the_judges_pictures_and_is_what_all_draw_with(done: tuple[Any, dict[str, Any]]) -> None:
    made, metrics = done
    trained = metrics["frames"][GAN][1:]
    assert metrics["best"] == min(trained, key=lambda frame: frame["distance"])
    assert metrics["arms"]["FedBAGAN"] == metrics["best"]["worth"]
    places = {path.name for path in (made.folder / "checkpoints").glob("*.safetensors")}
    assert places == {"best.safetensors", *(f"round-{k:04d}.safetensors" for k in (0, 1, 2))}
    best = GeneratorCheckpoint.read(made.folder / "checkpoints" / "best.safetensors")
    assert best.about.round == metrics["best"]["round"]
    assert best.about.distance == metrics["best"]["distance"]
    state = made.sites["a2"].states.current_state(GAN)
    assert all(torch.equal(state[f"average.{name}"], value) for name, value in best.generator.state_dict().items())


def test_the_reader_is_shown_it(done: tuple[Any, dict[str, Any]]) -> None:
    made, _ = done
    summary = read_summary(made.folder)
    titles = [section.title for section in summary.sections]
    assert titles == ["Measures of the samples", "Class by class", "Samples", "Losses", "Data"]
    figures = [figure.file for section in summary.sections for figure in section.figures]
    assert figures == [*(f"samples/round-{k:04d}.png" for k in (0, 1, 2)), "samples/rounds.gif"]
    with Image.open(made.folder / "samples" / "rounds.gif") as moving:
        assert getattr(moving, "n_frames", 1) >= 2
    charts = [chart.title for section in summary.sections for chart in section.charts]
    assert "loss of the generator" in charts
    assert "loss of the reconstruction" in charts
    assert "rare: 7 to 0.2" in summary.title
    assert summary.accounts[AUTOENCODER].nodes["a1"].contributed == 2


def test_a_run_that_is_started_again_measures_and_trains_nothing_twice(done: tuple[Any, dict[str, Any]]) -> None:
    made, _ = done
    before = (made.folder / "metrics.json").read_bytes()

    class Deaf:
        """Holds no rounds and answers no question."""

        capabilities = made.network.capabilities

        def ask(self, question: object) -> None:
            raise AssertionError(question)

        def run_rounds(self, plan: RoundPlan) -> tuple[RoundRecord, ...]:
            raise AssertionError(plan)

    network: Any = Deaf()
    run_job(made.config, network, made.folder, 0, NullProgress())
    assert (made.folder / "metrics.json").read_bytes() == before


def test_the_decoder_alone(whole: Make) -> None:
    made = whole(gan={"rounds": 0}, baseline=False)
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    metrics = json.loads((made.folder / "metrics.json").read_text())
    assert set(metrics["arms"]) == {"AE-only", "real pictures"}
    assert metrics["best"] is None


def test_half_of_the_sites_train_and_all_add_up(whole: Make) -> None:
    made = whole(federation={"participation": 0.5}, baseline=False)
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    rounds = json.loads((made.folder / "metrics.json").read_text())["rounds"]
    assert [len(one["weights"]) for one in rounds[AUTOENCODER]] == [2, 2]
    assert len(rounds[MOMENTS][0]["weights"]) == 3
    part = unpack_model(made, MOMENTS)["part"]
    assert torch.allclose(part, torch.full((3,), float(part.max()), dtype=torch.float64))


def unpack_model(made: Any, model: str) -> dict[str, torch.Tensor]:
    from fednet.api import Question

    content = made.sites["a1"].answer(Question("model", {}, {"model": model}))["content"]
    return unpack(content.numpy().tobytes())


def test_without_pictures_to_measure_with_the_last_generator_is_kept(federation: Make) -> None:
    """Sites with stripes of their own, and an asker without any."""
    made = federation()
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    metrics, summary = json.loads((made.folder / "metrics.json").read_text()), read_summary(made.folder)
    assert metrics["arms"] == {}
    assert metrics["best"] == {"round": 2, "distance": None, "worth": None}
    assert set(metrics["rounds"]) == {AUTOENCODER, MOMENTS, GAN}
    checkpoints = made.folder / "checkpoints"
    assert (checkpoints / "best.safetensors").read_bytes() == (checkpoints / "round-0002.safetensors").read_bytes()
    assert GeneratorCheckpoint.read(checkpoints / "best.safetensors").about.distance is None
    assert [section.title for section in summary.sections] == ["Samples", "Losses", "Data"]
    assert "since nothing is measured that could choose another" in summary.sections[0].notes[0]
    assert summary.sections[-1].table is not None
    assert summary.sections[-1].table.rows[0] == ("a1", "its own", 20)
    samples = read_samples(made.folder / "samples" / "last.safetensors")
    assert samples.classes == ("rows", "columns", "checks")
    with Image.open(made.folder / "samples" / "round-0002.png") as grid:
        assert grid.size == (3 * 33 + 1, 4 * 33 + 1)


def test_sites_that_do_not_fit_are_refused(whole: Make, tmp_path: Path) -> None:
    made = whole()
    wider = made.config.model_copy(update={"model": made.config.model.model_copy(update={"latent": 5})})
    with pytest.raises(DataError, match="a1 has latent vectors of 4 numbers, the run 5"):
        run_job(wider, made.network, tmp_path, 0, NullProgress())
    made.network.capabilities = {**made.network.capabilities, "a2": "{}"}
    with pytest.raises(MethodError, match="a2 has no capabilities of the method fedbagan"):
        run_job(made.config, made.network, tmp_path, 0, NullProgress())
