"""The files of a job: for their owner alone, without a watcher until one says so, read back as ends of nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.engines.interface import Hint
from launch.engines.slurm_folder import SlurmFolder
from nodes.spec import NodeSpec


@pytest.fixture
def folder(tmp_path: Path) -> SlurmFolder:
    return SlurmFolder(load_config("regression", ["engine={kind: slurm, restart: 2}"]), tmp_path)


def nodes(*names: str) -> Any:
    return [(NodeSpec(name, "client", "r", "tcp://127.0.0.1:7000", device="cuda:1"), Hint(gpus=1)) for name in names]


def test_each_node_has_a_file_of_its_own_and_joins_through_the_driver(folder: SlurmFolder) -> None:
    script = folder.write(nodes("a1", "driver"))
    assert "node a1 7000 2 --gpus-per-task=1 &" in script.read_text().splitlines()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (script, *folder.path.glob("*.json")))
    a1, driver = (json.loads((folder.path / f"{name}.json").read_text()) for name in ("a1", "driver"))
    assert (a1["seed"], driver["seed"]) == (str(folder.path / "rank0.json"), None)
    assert (a1["spec"]["announce"], driver["spec"]["announce"]) == (None, a1["seed"])
    assert a1["spec"]["device"] == "cuda:0"  # of those that Slurm gives it
    folder.remove_keys()
    assert [path.name for path in folder.path.iterdir()] == ["job.sh"]


def test_a_lease_of_an_earlier_launch_watches_nobody(folder: SlurmFolder) -> None:
    folder.write(nodes("driver"))
    folder.renew()
    folder.stop()
    assert {"lease", "stop"} <= {path.name for path in folder.path.iterdir()}
    folder.write(nodes("driver"))
    assert not {"lease", "stop"} & {path.name for path in folder.path.iterdir()}


def test_ends_are_codes_or_signals_and_what_is_half_written_is_none(folder: SlurmFolder) -> None:
    folder.write(nodes("driver"))
    for name, text in (("a1", "0\n"), ("a2", "137\n"), ("a3", "4\n"), ("a4", "")):
        (folder.path / f"{name}.exit").write_text(text)
    assert folder.ends() == {"a1": 0, "a2": -9, "a3": 4}
