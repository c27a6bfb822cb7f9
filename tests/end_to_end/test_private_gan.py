"""Private training and the regression as a user launches them: budgets hold over sockets, deaths and new starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fednet.api import NullProgress, SiteContext
from fednet.federated.local_network import local_network
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.job import run_job
from fednet.methods.regression.site import RegressionSite
from fednet.privacy.accounting import Expense, epsilon

pytestmark = pytest.mark.timeout(300)

GAN = """\
name: gan
method: private-gan
seed: 3
nodes: 3
devices: {threads: 1}
data: {name: digits, limit: 120}
model: {latent: 8, width: 16}
train: {steps: 4, rate: 0.1, critic_steps: 2}
rounds: 30
privacy: {noise: 1.0, budget: 4.0}
report: {every: 1, samples: 40}
"""


@pytest.fixture(scope="module")
def folder(terminal: Any) -> Path:
    (terminal.folder / "gan.yaml").write_text(GAN)
    return terminal.folder


def entries(place: Path, site: str) -> list[dict[str, Any]]:
    path = place / "privacy" / f"{site}.json"
    return json.loads(path.read_text())["entries"] if path.is_file() else []


@pytest.mark.slow
def test_a_budget_outlives_the_death_of_everybody(terminal: Any, folder: Path) -> None:
    """All are killed in the middle; what was spent stays spent, and the second start stops at the same budget."""
    place = folder / "runs" / "gan"
    first = terminal.start("launch", "gan.yaml", "--out", "runs")
    first.until(lambda: len(entries(place, "a1")) >= 1, "a round is paid for")
    first.kill()
    spent = {site: len(entries(place, site)) for site in ("a1", "a2", "a3")}
    second = terminal.start("launch", "gan.yaml", "--out", "runs")
    second.run = place
    assert second.ends() == 0, second.out + second.err
    for site, before in spent.items():
        steps = sum(entry["steps"] for entry in entries(place, site))
        assert len(entries(place, site)) >= before
        assert epsilon([Expense(0.1, 1.0, steps)], 1e-5) <= 4.0
    metrics = json.loads((place / "metrics.json").read_text())
    assert metrics["private"] is True
    assert "the privacy budget is spent" in metrics["stopped"]
    assert all(card["epsilon_rdp"] <= 4.0 for card in metrics["privacy"].values())
    assert any("epsilon_rdp" in str(said.data) for said in second.happened("progress"))


def test_a_budget_that_buys_nothing_and_a_batch_norm_are_refused_before_anything_starts(
    terminal: Any, folder: Path
) -> None:
    poor = terminal.call("check", "gan.yaml", "--set", "privacy.budget=0.1")
    assert poor.code != 0
    assert "privacy.budget 0.1 is below epsilon" in poor.err
    mixing = terminal.call("check", "gan.yaml", "--set", "model.kind=dcgan")
    assert mixing.code != 0
    assert "BatchNorm" in mixing.err
    assert "dp-dcgan" in mixing.err


def test_five_sites_fit_the_line_over_sockets_as_in_one_process(terminal: Any, tmp_path: Path) -> None:
    launched = terminal.run("launch", "regression", "--out", "runs", "--set", "devices.threads=1")
    assert launched.code == 0, launched.out + launched.err
    metrics = json.loads((terminal.folder / "runs" / "regression" / "metrics.json").read_text())
    assert all(abs(value - 10) <= 0.05 for value in metrics["federated"].values())
    assert all(abs(value - 10) > 0.05 for value in metrics["alone"].values())
    config = RegressionConfig()
    sites = {f"a{k + 1}": RegressionSite(config, SiteContext(f"a{k + 1}", k, 5, 0, "cpu", tmp_path)) for k in range(5)}
    run_job(
        config,
        local_network(sites, {name: one.prepare(NullProgress()) for name, one in sites.items()}),
        tmp_path,
        0,
        NullProgress(),
    )
    twin = json.loads((tmp_path / "metrics.json").read_text())
    assert twin["history"] == metrics["history"]


@pytest.mark.slow
def test_behind_a_secure_sum_over_sockets_they_find_the_same_line(terminal: Any) -> None:
    settings = ("--set", "devices.threads=1", "--set", "name=sealed", "--set", "federation={secure: {}}")
    launched = terminal.run("launch", "regression", "--out", "runs", *settings)
    assert launched.code == 0, launched.out + launched.err
    metrics = json.loads((terminal.folder / "runs" / "sealed" / "metrics.json").read_text())
    assert len(set(metrics["federated"].values())) == 1
    assert all(abs(value - 10) <= 0.05 for value in metrics["federated"].values())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ("federation={secure: {}, rule: {kind: median}}",),
            "Rule median compares single contributions, and a secure sum reveals none",
        ),
        (("federation={secure: {}, buffer: {size: 3}}",), "remove `secure` or `buffer`"),
        (("nodes=2", "federation={secure: {}}"), "federation.secure: expected at least 3 contributors"),
        (("federation={secure: {threshold: 6}}",), "federation.secure.threshold: expected at most 5"),
    ],
)
def test_what_no_secure_sum_can_do_is_refused_by_check(terminal: Any, settings: tuple[str, ...], said: str) -> None:
    done = terminal.call("check", "regression", *(part for each in settings for part in ("--set", each)))
    assert done.code == 2
    assert said in done.err
