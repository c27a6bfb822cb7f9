"""The engine `slurm` against a stand-in for Slurm's commands, everywhere; against Slurm itself in `test_slurm_real`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import fednet
from launch.config.document import as_overrides
from launch.config.schema import load_config
from launch.engines.choice import hints
from launch.engines.interface import Hint
from launch.engines.slurm import SlurmEngine, _gpus
from launch.engines.slurm_folder import SlurmFolder
from launch.errors import EXIT_CONFIG_ERROR, ConfigError, RunError
from launch.render.slurm import render_slurm
from nodes.spec import NodeSpec

HERE = Path(__file__).parent
ENGINE = {"kind": "slurm", "address": "127.0.0.1", "interface": "lo"}
pytestmark = [
    pytest.mark.timeout(1500),
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


def test_regression_ends_with_the_models_of_the_local_engine(
    state: Path, stories: Any, tmp_path: Path, warm_python: Any
) -> None:
    here = stories.run_warm(warm_python, tmp_path / "here", "local")
    engine = {**ENGINE, "gpus": 1, "python": str(warm_python.executable(tmp_path))}
    there = stories.run_warm(warm_python, tmp_path / "there", engine)
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


@pytest.mark.slow
def test_what_score_inference_draws_is_that_of_the_local_engine(state: Path, stories: Any, tmp_path: Path) -> None:
    here, there = stories.draws(tmp_path / "here", "local"), stories.draws(tmp_path / "there", ENGINE)
    assert stories.drawn(there) == stories.drawn(here)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_nodes_end_with_the_launcher(state: Path, stories: Any, tmp_path: Path, number: int) -> None:
    stories.check_ends_with_its_launcher(tmp_path / "runs", ENGINE, number)
    gone = "the launcher is gone" in (state / "job.log").read_text()
    assert gone == (number == signal.SIGKILL)


@pytest.mark.slow
def test_a_rendered_job_needs_no_launcher_for_the_same_models_and_its_report(
    state: Path, stories: Any, tmp_path: Path
) -> None:
    here = stories.run(tmp_path / "here", "local")
    settings = {"nodes": stories.NODES, "devices": {"threads": 1}, "rounds": 5, "engine": {**ENGINE, "restart": 1}}
    script = render_slurm(load_config("regression", as_overrides(settings)), tmp_path / "there")
    subprocess.run(["sbatch", "--parsable", script], check=True)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((state / "job").read_text())).wait(stories.PATIENCE)
    there = fednet.Run(tmp_path / "there")
    assert stories.computed(there) == stories.computed(here)
    assert stories.models(there.folder) == stories.models(here.folder)
    assert (there.folder / "report.html").is_file()


def test_each_node_sees_the_gpus_of_its_step_alone(state: Path, tmp_path: Path) -> None:
    python, run = tmp_path / "python", tmp_path / "run"
    python.write_text('#!/bin/sh\necho "$5 listens on $7 and sees $CUDA_VISIBLE_DEVICES"\n')
    python.chmod(0o755)
    loaded = load_config(
        "regression", ["nodes=1", f"engine={json.dumps({**ENGINE, 'gpus': 2, 'python': str(python)})}"]
    )
    nodes = [
        (NodeSpec("a1", "client", "r", "tcp://127.0.0.1:7000", device="cuda:1"), hints(loaded)["a1"]),
        (NodeSpec("driver", "guest", "r", "tcp://127.0.0.1:0"), Hint()),
    ]
    (run / "logs").mkdir(parents=True)
    script = SlurmFolder(loaded, run).write(nodes)
    subprocess.run(["bash", script], env={**os.environ, "SLURM_JOB_ID": "7"}, check=True)
    assert (run / "logs" / "a1.log").read_text() == "a1.json listens on tcp://lo:7000 and sees 0,1\n"
    assert (run / "logs" / "driver.log").read_text().startswith("driver.json listens on tcp://lo:0")


async def test_nodes_that_do_not_end_are_killed_and_their_ends_are_told_by_the_script(
    state: Path, tmp_path: Path
) -> None:
    python, run = tmp_path / "python", tmp_path / "run"
    python.write_text("#!/bin/bash\ntrap '' TERM\necho up\nwhile :; do sleep 0.1; done\n")
    python.chmod(0o755)
    engine = {**ENGINE, "python": str(python)}
    loaded = load_config({"name": "r", "method": "regression", "nodes": 1, "engine": engine})
    (run / "logs").mkdir(parents=True)
    async with SlurmEngine(loaded, run) as placing, asyncio.timeout(100):
        nodes = [NodeSpec(name, "client", "r", "tcp://127.0.0.1:0") for name in ("a1", "driver")]
        handles = [await placing.place(spec, Hint()) for spec in nodes]
        while not all(handle.log.is_file() and handle.log.read_text() for handle in handles):  # noqa: ASYNC110 - others
            await asyncio.sleep(0.05)
        for kill in (False, True):
            handles[0].stop(kill=kill)
        assert [await handle.wait() for handle in handles] == [-9, -9]
    assert (run / "slurm" / "a1.exit").read_text() == "137\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": {**ENGINE, "partition": "nope"}}, "Invalid partition name specified"),
        ({"engine": ENGINE, "nodes": {"a1": {"host": "nope"}, "a2": {}}}, "Invalid node name specified"),
    ],
)
def test_what_slurm_refuses_is_one_sentence_and_leaves_no_key(
    state: Path, stories: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        stories.run(tmp_path / "runs", **change)
    ends = fednet.Run(tmp_path / "runs" / "regression").events
    codes = {event.data["code"] for event in ends if event.kind == "stopped"}
    assert codes == {-signal.SIGTERM}  # not those of a kill: nobody waits for a job that there is not
    assert str(caught.value).endswith(f"expected a job that Slurm accepts, got Batch job submission failed: {said}.")
    assert not list((tmp_path / "runs" / "regression" / "slurm").glob("*.json"))


def test_a_job_that_can_never_start_ends_the_run_and_is_cancelled(state: Path, stories: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        stories.run(tmp_path / "runs", {**ENGINE, "cpus": 64})
    said = "Slurm's job 7 can never start: PartitionConfig; it asks for more than Slurm gives"
    first = str(caught.value).splitlines()[0]
    assert (caught.value.code, first) == (EXIT_CONFIG_ERROR, f"driver ended with exit code 2: {said}")
    assert not (state / "held").exists()
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
