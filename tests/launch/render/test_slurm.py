"""A job for `sbatch`: every node with its own key, in the run's folder. How it runs is tested with the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.render.slurm import render_slurm


def test_each_node_has_its_own_key_and_nobody_is_waited_for(tmp_path: Path) -> None:
    script = render_slurm(load_config("regression", ["nodes=2", "engine=slurm"]), tmp_path / "run")
    files = {path.stem: json.loads(path.read_text()) for path in script.parent.glob("*.json")}
    assert set(files) == {"a1", "a2", "driver"}
    assert len({file["private_keys"]["sign"] for file in files.values()}) == 3
    assert all(file["spec"]["join"] == [] for file in files.values())
    assert not (script.parent / "lease").exists()  # else the job would wait for a launcher
    assert (tmp_path / "run" / "logs").is_dir()


def test_another_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine: expected the engine slurm, got local\. Say --set"):
        render_slurm(load_config("regression"), tmp_path / "run")


def test_nothing_of_another_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="expected an empty folder or that of an earlier run"):
        render_slurm(load_config("regression", ["engine=slurm"]), tmp_path)
