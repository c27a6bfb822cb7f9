"""Five sites without an x in common: together they find the line, alone none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Network, NullProgress, SiteContext, Stopped
from fednet.errors import MethodError
from fednet.federated import aggregation
from fednet.federated import local_network as local
from fednet.federated.local_network import local_network
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.job import run_job
from fednet.methods.regression.site import LINE, RegressionSite
from fednet.reporting.summary import read_summary
from tests.cases import first


def network(
    folder: Path, config: RegressionConfig, seed: int = 0, count: int = 5
) -> tuple[dict[str, RegressionSite], Network]:
    places = [SiteContext(f"a{k + 1}", k, count, seed, "cpu", folder) for k in range(count)]
    sites = {place.name: RegressionSite(config, place) for place in places}
    return sites, local_network(sites, {name: one.prepare(NullProgress()) for name, one in sites.items()}, seed)


def done(folder: Path, seed: int = 0, **keys: Any) -> dict[str, Any]:
    config = RegressionConfig.model_validate(keys)
    run_job(config, network(folder, config, seed)[1], folder, seed, NullProgress())
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("seed", first(1, [0, 1, 2]))
def test_all_predict_ten_and_the_same_and_alone_nobody_does(tmp_path: Path, seed: int) -> None:
    found = done(tmp_path, seed)
    assert set(found["federated"]) == {"a1", "a2", "a3", "a4", "a5"}
    assert len(set(found["federated"].values())) == 1
    assert all(abs(value - 10) <= 0.05 for value in found["federated"].values())
    assert all(abs(value - 10) > 0.05 for value in found["alone"].values())


def test_forty_sites_find_the_line_too(tmp_path: Path) -> None:
    """With centres 1 apart, x reached 19.5 and every site diverged."""
    config = RegressionConfig(rounds=5)
    summary = run_job(config, network(tmp_path, config, count=40)[1], tmp_path, 0, NullProgress())
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert all(abs(value - 10) <= 1.0 for value in found["federated"].values())
    assert summary.title.startswith("40 sites")


def test_a_step_size_at_which_all_diverge_is_named(tmp_path: Path) -> None:
    config = RegressionConfig(lr=50.0, steps=200, rounds=1)
    with pytest.raises(MethodError, match=r"a1 refused: a1: the training diverges: lower lr \(50\)"):
        run_job(config, network(tmp_path, config)[1], tmp_path, 0, NullProgress())


def test_predictions_that_are_not_finite_are_kept_and_shown(tmp_path: Path) -> None:
    """They ended the run with "cannot write journal.jsonl as JSON: Out of range float values"."""
    config = RegressionConfig(rounds=1)
    sites, bus = network(tmp_path, config)
    sites["a1"].handlers = lambda: {"predict": lambda _: {"y": torch.tensor([[torch.inf]])}}  # type: ignore[method-assign]
    summary = run_job(config, bus, tmp_path, 0, NullProgress())
    assert summary.title == "5 sites, largest error inf"
    assert json.loads((tmp_path / "metrics.json").read_text())["federated"]["a1"] == "Infinity"
    assert read_summary(tmp_path).title == summary.title


def test_an_aggregate_of_zeros_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = aggregation.aggregate
    monkeypatch.setattr(local, "aggregate", lambda *given: {k: torch.zeros_like(v) for k, v in whole(*given).items()})
    found = done(tmp_path, rounds=5)
    assert set(found["federated"].values()) == {0.0}


def test_what_is_left(tmp_path: Path) -> None:
    config = RegressionConfig(rounds=3)
    summary = run_job(config, network(tmp_path, config)[1], tmp_path, 0, NullProgress())
    (section,) = summary.sections
    assert section.table is not None
    assert len(section.table.rows) == 5
    assert len(section.charts[0].lines["a1"]) == 4  # before the first round too
    assert summary.accounts[LINE].steps == 3
    assert section.notes == ("All sites predict the same number, to the last bit.",)


def test_a_job_without_sites_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="no site answers"):
        run_job(RegressionConfig(), local_network({}, {}), tmp_path, 0, NullProgress())


@pytest.mark.parametrize("reports", [1, 3, 6])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(tmp_path: Path, reports: int) -> None:
    class Impatient(NullProgress):
        left = reports

        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            self.left -= 1
            if not self.left:
                raise Stopped

    config = RegressionConfig(rounds=5)
    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    run_job(config, network(tmp_path / "whole", config)[1], tmp_path / "whole", 0, NullProgress())
    peers = network(tmp_path / "stopped", config)[1]
    with pytest.raises(Stopped):
        run_job(config, peers, tmp_path / "stopped", 0, Impatient())
    run_job(config, peers, tmp_path / "stopped", 0, NullProgress())
    whole, stopped = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "stopped"))
    for record in (*whole["rounds"], *stopped["rounds"]):
        del record["seconds"]
    assert stopped == whole
