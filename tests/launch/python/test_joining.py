"""Training loops that are sites: on threads of this process, with real sockets; one of them dies as a script."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import fednet
from fednet.api import ModelState, NullProgress, Progress, RoundRecord, RoundTask, Update
from fednet.errors import MethodError
from fednet.federated.local_network import local_network
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.methods.external_training.results import round_plan
from fednet.methods.external_training.site import module_state
from fednet.privacy.accounting import Expense, epsilon
from launch.errors import ConfigError
from nodes.peer_directory import SiteStatement

Together = Callable[..., dict[str, Any]]
HERE = Path(__file__).parent
NAMES = ("a1", "a2", "a3")
PATIENCE = 100.0


class LocalSite:
    """The same training within one process."""

    def __init__(self, training: ModuleType, name: str, module: nn.Module) -> None:
        self.training, self.name, self.module = training, name, module
        self.started = module_state(module)

    def prepare(self, progress: Progress) -> str:
        return "{}"

    def answer(self, question: object) -> Mapping[str, torch.Tensor]:
        raise MethodError("nothing")

    def initial_state(self, model: str) -> ModelState:
        return self.started

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        self.module.load_state_dict(dict(base))
        loss = self.training.train(self.module, self.name)
        return Update(module_state(self.module), float(len(self.training.points(self.name)[0])), {"loss": loss})

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        self.module.load_state_dict(dict(state))


def digests(ended: dict[str, Any]) -> set[str]:
    return {run.metrics["digest"] for _, run in ended.values()}


def weights(ended: dict[str, Any], name: str) -> list[float]:
    return [parameter.item() for parameter in ended[name][0].parameters()]


def run_locally(cluster: dict[str, Any], training: ModuleType, leader: str) -> tuple[list[RoundRecord], dict[str, Any]]:
    """The same rounds within one process, without a secure sum: their records, and the sites' modules in the end."""
    seed = list(cluster["nodes"]).index(leader)  # the first leader's module is what all begin with
    sites = {name: LocalSite(training, name, training.model(seed)) for name in cluster["nodes"]}
    local = local_network(sites, dict.fromkeys(sites, "{}"), progress=NullProgress())
    records = local.run_rounds(round_plan(ExternalTrainingConfig(rounds=cluster["rounds"])))
    return list(records), {name: site.module for name, site in sites.items()}


def test_loops_that_are_joined_do_what_one_process_does_bit_for_bit(
    cluster: dict[str, Any], train_together: Together, training: ModuleType
) -> None:
    ended = train_together(cluster)
    records, modules = run_locally(cluster, training, ended["a1"][1].metrics["rounds"][0]["leader"])
    assert digests(ended) == {records[-1].digest}
    for name in cluster["nodes"]:
        run = ended[name][1]
        assert weights(ended, name) == [parameter.item() for parameter in modules[name].parameters()]
        assert [row["contributors"] for row in run.rows()] == [3] * cluster["rounds"]
        assert run.metrics["rounds"][-1]["values"] == {site: dict(v) for site, v in records[-1].values.items()}


def test_a_secure_sum_gives_the_same_within_its_quantisation(
    cluster: dict[str, Any], train_together: Together, training: ModuleType
) -> None:
    secure = {**cluster, "rounds": 2, "federation": {"secure": {}}}
    ended = train_together(secure)
    assert len(digests(ended)) == 1
    rounds = ended["a1"][1].metrics["rounds"]
    _, modules = run_locally(secure, training, rounds[0]["leader"])
    assert weights(ended, "a2") == pytest.approx([one.item() for one in modules["a2"].parameters()], abs=1e-4)
    assert sorted(rounds[0]["weights"]) == ["a1", "a2", "a3"]


def test_privacy_is_accounted_for_at_every_site(cluster: dict[str, Any], train_together: Together) -> None:
    private = {**cluster, "rounds": 2, "federation": {"secure": {"clip": 16.0}, "quorum": 3}, "privacy": {"noise": 2.0}}
    ended = train_together(private)
    assert len(digests(ended)) == 1
    assert {weight for one in ended["a1"][1].metrics["rounds"] for weight in one["weights"].values()} == {1.0}
    sections = json.loads((ended["a1"][1].folder / "summary.json").read_text())["sections"]
    (privacy,) = [one for one in sections if one["title"] == "Privacy"]
    spent = {row[0]: row[1] for row in privacy["table"]["rows"]}
    assert spent == pytest.approx(dict.fromkeys(NAMES, epsilon([Expense(1.0, 2.0, 2)], 1e-5)))


@pytest.mark.slow
def test_a_script_that_is_killed_and_started_again_ends_where_the_others_do(
    cluster: dict[str, Any], train_together: Together, tmp_path: Path
) -> None:
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    script: list[str | Path] = [sys.executable, HERE / "training.py", tmp_path / "cluster.yaml", "a3", tmp_path / "a3"]

    def twice() -> str:
        died = subprocess.run([*script, "2"], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert died.returncode == -9, died.stderr
        again = subprocess.run(script, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert again.returncode == 0, again.stderr
        return again.stdout

    with ThreadPoolExecutor(1) as threads:
        scripted = threads.submit(twice)
        ended = train_together(cluster, ("a1", "a2"))
        said = scripted.result(PATIENCE)
    assert digests(ended) == {fednet.Run(tmp_path / "a3" / "joined").metrics["digest"]}
    assert said.split() == [value.hex() for value in weights(ended, "a1")]
    rounds = ended["a1"][1].metrics["rounds"]
    assert len(rounds) == cluster["rounds"]
    assert "a3" in rounds[0]["weights"]
    assert "a3" in rounds[1]["lost"]


def test_a_site_that_comes_back_need_not_have_met_all_that_have_finished(
    cluster: dict[str, Any], tmp_path: Path
) -> None:
    joined = fednet.join(cluster, name="a3", out=tmp_path)

    def unfinished(**finished: tuple[str, ...]) -> set[str]:
        said = {name: SiteStatement(card=joined._site.capabilities(names)).text() for name, names in finished.items()}
        return joined._unfinished(SimpleNamespace(capabilities=said, election=SimpleNamespace(members=NAMES)))  # type: ignore[arg-type]

    assert unfinished() == {"a1", "a2"}
    assert unfinished(a1=("a1",)) == {"a2"}
    assert not unfinished(a1=("a1", "a2"))


def test_a_loop_that_fails_declines_its_round_and_says_why(
    cluster: dict[str, Any], train_together: Together, training: ModuleType, tmp_path: Path
) -> None:
    config = {**cluster, "linger": 0.0, "rounds": 2}

    def fails() -> None:
        with fednet.join(config, name="a3", out=tmp_path / "a3") as run:
            for _ in run.rounds(training.model()):
                raise ZeroDivisionError("no loss")

    with ThreadPoolExecutor(1) as threads:
        failing = threads.submit(fails)
        ended = train_together(config, ("a1", "a2"))
        with pytest.raises(ZeroDivisionError, match="no loss"):
            failing.result(PATIENCE)
    lost = ended["a1"][1].metrics["rounds"][0]["lost"]["a3"]
    assert "declined: the training loop of a3 left: ZeroDivisionError: no loss" in lost
    assert len(digests(ended)) == 1


def test_what_cannot_be_joined_is_refused_at_once(cluster: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name: expected one of a1, a2, a3, got 'b1'"):
        fednet.join(cluster, name="b1", out=tmp_path)
    with pytest.raises(ConfigError, match=r"nodes\.a2\.listen: expected an address\. Give it `listen"):
        fednet.join({**cluster, "nodes": 3}, name="a1", out=tmp_path)
    values = {**{key: cluster[key] for key in ("name", "nodes", "rounds")}, "method": "regression"}
    with pytest.raises(ConfigError, match="expected a method whose sites have a training loop"):
        fednet.join(values, name="a1", out=tmp_path)
    assert not list(tmp_path.iterdir())
