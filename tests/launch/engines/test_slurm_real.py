"""The engine `slurm` against Debian's Slurm: a controller and two daemons on loopback, started as this user."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.errors import EXIT_CONFIG_ERROR, ConfigError, RunError

HERE = Path(__file__).parent
ENGINE = {"kind": "slurm", "address": "127.0.0.1", "interface": "lo"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        import slurm_cluster  # type: ignore[import-not-found]
        import stories  # type: ignore[import-not-found]

        if lacking := slurm_cluster.missing():
            pytest.skip(lacking)
        with slurm_cluster.running(tmp_path_factory.mktemp("slurm")) as conf:
            patch.setenv("SLURM_CONF", str(conf))
            patch.setenv("PATH", slurm_cluster.search())
            yield stories


def test_regression_ends_with_the_models_of_the_local_engine(stories: Any, tmp_path: Path) -> None:
    here = stories.run(tmp_path / "here", "local")
    there = stories.run(tmp_path / "there", ENGINE)
    assert stories.computed(there) == stories.computed(here)
    assert stories.models(there.folder) == stories.models(here.folder)


def test_a_site_that_was_killed_comes_back_within_the_allocation(stories: Any, tmp_path: Path) -> None:
    run = stories.loses_a_site_and_goes_on(tmp_path, {**ENGINE, "restart": 1})
    assert "a2 has ended with 137 and is started again, 0 left" in (run.folder / "logs" / "slurm.log").read_text()
    assert stories.told(run, "joined").count("a2") == 2
    assert json.loads((run.folder / "killed.json").read_text())["gpus"] == "5"  # as Slurm's prolog has said


def test_what_score_inference_draws_is_that_of_the_local_engine(stories: Any, tmp_path: Path) -> None:
    here, there = stories.draws(tmp_path / "here", "local"), stories.draws(tmp_path / "there", ENGINE)
    assert stories.drawn(there) == stories.drawn(here)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_nodes_end_with_the_launcher(stories: Any, tmp_path: Path, number: int) -> None:
    stories.check_ends_with_its_launcher(tmp_path / "runs", ENGINE, number)


def test_more_processors_than_there_are_end_the_run(stories: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Slurm's job .* can never start: PartitionConfig") as caught:
        stories.run(tmp_path, {**ENGINE, "cpus": 64})
    assert caught.value.code == EXIT_CONFIG_ERROR


@pytest.mark.parametrize(
    ("change", "nodes", "said"),
    [
        ({"partition": "nope"}, 3, "Batch job submission failed: Invalid partition name specified"),
        ({"gpus": 9}, 3, "Invalid generic resource"),
        ({}, {"a1": {"host": "nope"}}, "Batch job submission failed: Invalid node name specified"),
    ],
)
def test_what_slurm_refuses_is_one_sentence(
    stories: Any, tmp_path: Path, change: dict[str, Any], nodes: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"expected a job that Slurm accepts, got {said}"):
        stories.run(tmp_path, {**ENGINE, **change}, nodes=nodes)
