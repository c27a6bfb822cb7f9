"""`fednet render` says what it wrote and what to do next, and refuses what it cannot render."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from launch.commands.render import app
from launch.errors import ConfigError


def say(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_compose_says_how_to_start_it(tmp_path: Path) -> None:
    said = say("compose", "regression", "--to", str(tmp_path / "out"), "--set", "nodes=2", "--gpus", "0")
    assert said.splitlines()[0] == f"wrote {tmp_path / 'out' / 'compose.yaml'}"
    assert f"next: cd {tmp_path / 'out'} && docker compose up --build --detach && " in said


def test_files_go_below_the_current_folder_by_the_run_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "wrote rendered/regression/kubernetes.yaml" in say("kubernetes", "regression", "--image", "there/f:1")
    text = (tmp_path / "rendered" / "regression" / "kubernetes.yaml").read_text()
    assert "image: there/f:1" in text
    assert "nvidia.com/gpu" not in text


def test_a_gpu_is_asked_for_where_the_configuration_says_so(tmp_path: Path) -> None:
    say("kubernetes", "regression", "--to", str(tmp_path / "out"), "--set", "devices.device=cuda")
    documents = list(yaml.safe_load_all((tmp_path / "out" / "kubernetes.yaml").read_text()))
    jobs = {each["metadata"]["name"]: each for each in documents if each["kind"] == "Job"}
    (clients,) = jobs["fednet-regression"]["spec"]["template"]["spec"]["containers"]
    assert clients["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_a_job_of_slurm_is_written_for_sbatch(tmp_path: Path) -> None:
    said = say("slurm", "regression", "--to", str(tmp_path / "out"), "--set", "engine=slurm", "--set", "nodes=2")
    script = tmp_path / "out" / "slurm" / "job.sh"
    assert said.splitlines() == [f"wrote {script}", f"next: sbatch {script}"]


@pytest.mark.parametrize("given", ["pictures", ":/data", "pictures:data"])
def test_a_claim_has_a_name_and_an_absolute_path(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CLAIM:PATH with an absolute path"):
        say("kubernetes", "regression", "--to", str(tmp_path / "out"), "--data", given)
