"""A whole run in one process, down to its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fednet.api import NullProgress, SiteContext
from fednet.errors import DataError
from fednet.federated.local_network import local_ask
from fednet.methods.common.measuring_data import UNMEASURED
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.job import run_job
from fednet.methods.score_inference.site import ScoreInferenceSite
from fednet.reporting.summary import Participation, read_summary

DIGITS: dict[str, Any] = {
    "data": {"limit": 150},
    "model": {"channels": [8], "groups": 4, "attention": False},
    "train": {"steps": 3},
    "sampler": {"kind": "euler-maruyama", "steps": 3},
    "samples": {"total": 20},
    "evaluate": {"judge": False, "agreement": 2},
}


def go(folder: Path, given: dict[str, object], count: int = 2) -> Any:
    config = ScoreInferenceConfig.model_validate({**DIGITS, **given})
    sites = {
        f"a{k + 1}": ScoreInferenceSite(config, SiteContext(f"a{k + 1}", k, count, 0, "cpu", folder))
        for k in range(count)
    }
    capabilities = {name: one.prepare(NullProgress()) for name, one in sites.items()}
    return run_job(
        config, SimpleNamespace(ask=local_ask(sites), capabilities=capabilities), folder, 0, NullProgress()
    ), capabilities


def test_a_run_leaves_its_results(tmp_path: Path) -> None:
    summary, capabilities = go(tmp_path, {})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: arm["queries"] for name, arm in metrics["arms"].items()} == {"mean": 4, "mixture": 4}
    assert read_summary(tmp_path) == summary
    table = summary.sections[0].table
    assert [row[0] for row in table.rows] == ["mean", "mixture"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    figures = [figure for section in summary.sections for figure in section.figures]
    assert [figure.title for figure in figures[:2]] == ["mean", "mixture"]
    assert len(figures) == 4
    assert all(Image.open(tmp_path / figure.file).size[0] > 100 for figure in figures)
    assert summary.accounts["mean"].nodes["a2"] == Participation(4, 1, 4, 0)
    tensors = load_file(tmp_path / "samples" / "mixture" / "samples.safetensors")
    assert tensors["images"].shape == (20, 1, 8, 8)
    assert tensors["log_p"].shape == (2, 20)
    assert bool(tensors["log_p"].any())
    assert {path.parent.name for path in tmp_path.glob("samples/*/grid.png")} == {"mean", "mixture"}, "no real picture"
    assert sum(json.loads(capabilities["a1"])["histogram"][5:]) == 0


def test_real_pictures_are_shown_where_the_configuration_says_so(tmp_path: Path) -> None:
    summary, _ = go(tmp_path, {"report": {"real": True}, "arms": {"mean": {}}})
    assert [figure.title for figure in summary.sections[1].figures] == ["real data", "mean"]
    assert (tmp_path / "samples" / "real" / "grid.png").is_file()


def test_the_same_run_replays_bit_for_bit(tmp_path: Path) -> None:
    images = []
    for place in ("one", "two"):
        go(tmp_path / place, {"evaluate": {"judge": False, "agreement": 0}})
        images.append(load_file(tmp_path / place / "samples" / "mixture" / "samples.safetensors")["images"])
    assert torch.equal(images[0], images[1])


def test_labels_make_a_row_each(tmp_path: Path) -> None:
    go(tmp_path, {"model": {**DIGITS["model"], "conditional": True}, "arms": {"label-count": {"rule": "label-count"}}})
    labels = load_file(tmp_path / "samples" / "label-count" / "samples.safetensors")["labels"]
    assert labels.bincount().tolist() == [2] * 10
    width, height = Image.open(tmp_path / "samples" / "label-count" / "grid.png").size
    assert height > 4 * width


def test_samples_that_cannot_be_measured_are_kept_and_the_reason_told(tmp_path: Path) -> None:
    quick = {"measure": {"judge_steps": 2}, "evaluate": {"judge": True, "agreement": 0}}
    summary, _ = go(tmp_path, {**quick, "arms": {"mean": {}}})
    shown = summary.sections[0]
    assert shown.table.rows[0][0] == "real pictures"
    assert dict(zip(shown.table.columns, shown.table.rows[1], strict=True))["label accuracy"] is None
    assert "ratio" not in shown.table.columns
    assert "mean could not be measured" in shown.notes[0]
    assert (tmp_path / "samples" / "mean" / "grid.png").exists()


def test_sites_with_data_of_their_own_need_nobody_s_pictures_to_compare_with(
    tmp_path: Path, federation: Callable[..., Any], small_config: Callable[..., Any]
) -> None:
    made = federation(small_config())
    network = SimpleNamespace(ask=local_ask(made.sites), capabilities=made.capabilities)
    summary = run_job(made.config, network, tmp_path / "run", 0, NullProgress())
    data = summary.sections[-1]
    assert data.table is not None
    assert data.table.rows == (("a1", "its own", 12), ("a2", "its own", 13), ("a3", "its own", 14))
    assert data.notes == ("Classes: one, two, three.", UNMEASURED)
    results = summary.sections[0].table
    assert results is not None
    assert results.columns == ("arm", "rule", "sampler", "samples", "queries", "seconds")


def test_data_of_another_shape_to_measure_with_are_refused_before_anything_is_drawn(
    tmp_path: Path, federation: Callable[..., Any], small_config: Callable[..., Any]
) -> None:
    made = federation(small_config(measure={"data": {"limit": 20}}))
    network = SimpleNamespace(ask=local_ask(made.sites), capabilities=made.capabilities)
    with pytest.raises(DataError, match=r"set measure\.data to pictures like the sites'"):
        run_job(made.config, network, tmp_path / "run", 0, NullProgress())
    assert not (tmp_path / "run").exists()


def test_nothing_is_held_out_where_nothing_is_measured(tmp_path: Path) -> None:
    _, capabilities = go(tmp_path, {"data": {}, "measure": None, "arms": {"mean": {}}})
    assert sum(json.loads(text)["pictures"] for text in capabilities.values()) == 1797


def test_a_site_with_data_of_its_own_keeps_all_of_it(tmp_path: Path) -> None:
    config, site = ScoreInferenceConfig.model_validate(DIGITS), SiteContext("a1", 0, 5, 0, "cpu", tmp_path)
    own = ScoreInferenceSite.from_overrides(config, site, {"data": {"limit": 90}})
    capabilities = json.loads(own.prepare(NullProgress()))
    assert sum(capabilities["histogram"]) == 90
    with pytest.raises(DataError, match="data of its own"):
        ScoreInferenceSite.from_overrides(config, site, {"data": {"name": "nope"}})
