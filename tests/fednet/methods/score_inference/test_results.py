"""The table of results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fednet.diffusion.sampler_config import ODE, EulerMaruyama
from fednet.methods.score_inference.config import ArmConfig
from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.methods.score_inference.results import ArmResult, summarise, write_arm, write_metrics
from fednet.methods.score_inference.sampling import ArmSamples
from fednet.metrics.evaluation import Evaluation, RealReference
from fednet.reporting.summary import ParticipationAccount

CARD = ScoreCapabilities.model_validate(
    {
        "pictures": 1,
        "histogram": [1, 0],
        "classes": ["zero", "one"],
        "shape": [1, 4, 4],
        "conditional": True,
        "sde": {"kind": "vp"},
        "expert": {"kind": "unet", "network": "ScoreNet", "prediction": "epsilon", "schedule": "the SDE vp"},
        "steps": 1,
        "loss": 1.0,
        "seconds": 1.0,
    }
)


def arm(name: str, sampler: Any, evaluation: Any = None, uncovered_labels: Any = ()) -> ArmResult:
    account, gone = ParticipationAccount.of("query", "a"), frozenset(uncovered_labels)
    pictures, labels, again = torch.zeros(4, 1, 4, 4), torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.bool)
    samples = ArmSamples(pictures, labels, torch.zeros(1, 4), account, gone, again, (), 9, 1.5)
    return ArmResult(name, ArmConfig(rule="mean"), sampler, samples, evaluation)


def test_the_table_has_real_pictures_first_and_the_ratio_to_the_floor() -> None:
    found = Evaluation(4, 0.75, 1.5, 6.0, 2.0, {"zero": 4, "one": 0})
    arms = [arm("one", ODE(), found), arm("two", EulerMaruyama())]
    table = summarise(arms, {"a": CARD}, RealReference(0.9, 1.9)).sections[0].table
    assert table is not None
    real, one, two = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (real["arm"], real["label accuracy"], real["Inception Score"]) == ("real pictures", 0.9, 1.9)
    assert (one["ratio"], one["sampler"], one["queries"], one["samples"]) == (3.0, "dopri5", 9, 4)
    assert (two["ratio"], two["sampler"], two["seconds"]) == (None, "euler-maruyama", 1.5)


def test_what_was_drawn_again_is_said(tmp_path: Path) -> None:
    plain = arm("one", ODE())
    again = replace(plain.samples, redrawn=torch.tensor([False, True, False, True]), without=("b",))
    lost = replace(plain, samples=again)
    (note,) = summarise([lost], {"a": CARD}).sections[0].notes
    assert note.startswith("one: 2 of 4 samples (numbers 1, 3) were drawn again without b")
    write_arm(tmp_path, lost, ())
    assert load_file(tmp_path / "samples" / "one" / "samples.safetensors")["redrawn"].tolist() == [0, 1, 0, 1]
    write_metrics(tmp_path, [lost], None, ())
    told = json.loads((tmp_path / "metrics.json").read_text())["arms"]["one"]
    assert (told["redrawn"], told["redrawn_without"]) == ([1, 3], ["b"])


def test_labels_that_nobody_held_are_named() -> None:
    summary = summarise([arm("one", ODE(), uncovered_labels=[1])], {"a": CARD})
    assert any("one" in note and "had images of one" in note for note in summary.sections[0].notes)
