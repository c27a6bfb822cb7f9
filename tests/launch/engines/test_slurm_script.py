"""The batch script: what the configuration says, in bash. How it runs is tested with the engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.engines.slurm_script import SlurmTask, render


@pytest.mark.skipif(shutil.which("bash") is None, reason="the job's script is one of bash")
def test_a_rendered_script_is_one_that_bash_reads(tmp_path: Path) -> None:
    engine = {
        "kind": "slurm",
        "partition": "long",
        "time": "1-00:00:00",
        "options": ["--constraint=ib"],
        "setup": ["module load x"],
    }
    config: Any = load_config({"name": "r", "method": "regression", "nodes": 2, "engine": engine}).cluster.engine
    tasks = (SlurmTask("driver"), SlurmTask("a1", 7000, 1, "n1", 3), SlurmTask("a2", gpus=1))
    text = render("r", config, tasks, Path("/shared/it's here"), "/opt/python")
    (tmp_path / "job.sh").write_text(text)
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    lines = text.splitlines()
    for line in (
        "#SBATCH --ntasks=3", "#SBATCH --gpus=2", "#SBATCH --partition=long", "#SBATCH --time=1-00:00:00",
        "#SBATCH --constraint=ib", "module load x", "node a1 7000 3 --gpus-per-task=1 --nodelist=n1 &",
        "node a2 0 0 --gpus-per-task=1 &", "node driver 0 0 &", "#SBATCH --nodelist=n1",
    ):  # fmt: skip
        assert line in lines


@pytest.mark.skipif(shutil.which("bash") is None, reason="the job's script is one of bash")
def test_the_path_of_an_interpreter_is_no_command(tmp_path: Path) -> None:
    """It stands where one shell hands it to another."""
    config: Any = load_config(
        {"name": "r", "method": "regression", "nodes": 1, "engine": {"kind": "slurm"}}
    ).cluster.engine
    there = tmp_path / "it's $(touch stolen); here"
    there.mkdir()
    (tmp_path / "slurm").mkdir()
    (there / "python").write_text('#!/bin/bash\necho "$@" > "$OUT"\n')
    (there / "python").chmod(0o755)
    (tmp_path / "srun").write_text('#!/bin/bash\nwhile [ "$1" != bash ]; do shift; done\nexec "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    text = render("r", config, (SlurmTask("driver", 7), SlurmTask("a1")), tmp_path, str(there / "python"))
    body = text[text.index("node() {") : text.index("watch_launcher")]
    (tmp_path / "job.sh").write_text(f"{body}\nnode driver 7 0\n")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OUT": str(tmp_path / "out")}
    subprocess.run(["bash", "job.sh"], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "out").read_text().startswith("-m launch node --spec driver.json --listen tcp://")
    assert not (tmp_path / "stolen").exists()
