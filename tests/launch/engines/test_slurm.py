"""The engine `slurm` against a stand-in for Slurm's commands, everywhere; against Slurm itself in `test_slurm_real`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.engines.slurm import SlurmEngine, _gpus
from launch.errors import ConfigError

HERE = Path(__file__).parent
ENGINE = {"kind": "slurm", "address": "127.0.0.1", "interface": "lo"}
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("bash") is None, reason="the job's script is one of bash"),
]


@pytest.fixture
def stories(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    import stories  # type: ignore[import-not-found]

    return stories


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's state, with its commands on the PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "state").mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "sinfo"):
        (tmp_path / "bin" / name).symlink_to(HERE / "slurm_stand_in.sh")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(tmp_path / "state"))
    return tmp_path / "state"


def test_regression_ends_with_the_models_of_the_local_engine(state: Path, stories: Any, tmp_path: Path) -> None:
    here = stories.run(tmp_path / "here", "local")
    there = stories.run(tmp_path / "there", {**ENGINE, "gpus": 1})
    assert stories.computed(there) == stories.computed(here)
    assert stories.models(there.folder) == stories.models(here.folder)
    assert stories.told(there, "started") == ["a1", "a2", "a3", "driver"]
    steps = (state / "steps.log").read_text().splitlines()
    assert sorted("--gpus-per-task=1" in step for step in steps) == [False, True, True, True]  # the driver needs none
    assert not list((there.folder / "slurm").glob("*.json"))  # nor are private keys left


@pytest.mark.slow
def test_a_site_that_was_killed_comes_back_within_the_allocation(state: Path, stories: Any, tmp_path: Path) -> None:
    run = stories.loses_a_site_and_goes_on(tmp_path / "runs", {**ENGINE, "restart": 1})
    assert "a2 has ended with 137 and is started again, 0 left" in (state / "job.log").read_text()
    assert stories.told(run, "joined").count("a2") == 2


def test_what_slurm_refuses_is_one_sentence_and_leaves_no_key(state: Path, stories: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        stories.run(tmp_path / "runs", {**ENGINE, "partition": "nope"})
    said = str(caught.value)
    assert said.endswith(
        "expected a job that Slurm accepts, got Batch job submission failed: Invalid partition name specified."
    )
    assert not list((tmp_path / "runs" / "regression" / "slurm").glob("*.json"))


def test_without_slurm_it_is_said(stories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ConfigError, match="engine: expected the command sbatch: a launch runs on a machine of the cluster"
    ):
        stories.run(tmp_path, ENGINE)


async def test_the_gpus_of_its_machines_are_its_capacity(state: Path, tmp_path: Path) -> None:
    loaded = load_config({"name": "r", "method": "regression", "nodes": 1, "engine": ENGINE})
    assert (await SlurmEngine(loaded, tmp_path).capacity()).gpus == {"n1": 2, "n2": 4, "n3": 0}
    assert _gpus("gpu:a100:4(S:0-1),shard:8") == 4
