"""The image's build context: a Dockerfile that hadolint accepts, and a wheel that pip installs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.render.image import constraints, dockerfile, write_context

HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    write_context(load_config("score-inference"), folder)
    return folder / "image"


def test_the_dockerfile_has_nothing_to_lint(context: Path) -> None:
    done = subprocess.run([HADOLINT, context / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_wheel_is_installed_by_pip_and_runs(context: Path, tmp_path: Path) -> None:
    (wheel,) = context.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path, wheel], check=True)
    code = "import launch, sys; assert launch.__file__.startswith(sys.argv.pop(1)); from launch.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code, str(tmp_path), "examples"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "regression" in done.stdout) == (0, True), done.stderr
    assert "[fednet.methods]" in next(tmp_path.glob("fednet-*.dist-info/entry_points.txt")).read_text()


def test_the_same_fednet_makes_the_same_wheel(context: Path, tmp_path: Path) -> None:
    write_context(load_config("regression"), tmp_path)
    (wheel,), (again,) = context.glob("*.whl"), (tmp_path / "image").glob("*.whl")
    assert wheel.read_bytes() == again.read_bytes()


def test_a_method_is_installed_with_its_extra(context: Path) -> None:
    text = (context / "Dockerfile").read_text()
    assert "-py3-none-any.whl[diffusion]'" in text
    assert "[" not in dockerfile(load_config("regression"), "fednet.whl").split("CMD")[0]


def test_versions_are_those_that_are_installed_here() -> None:
    import pydantic

    lines = constraints().splitlines()
    assert f"pydantic=={pydantic.__version__}" in lines
    assert not [line for line in lines if "+" in line or line.startswith("fednet==")]


def test_no_key_and_no_datum_is_in_the_context(context: Path) -> None:
    assert {path.suffix for path in context.rglob("*")} <= {"", ".txt", ".whl"}


def test_modules_that_the_configuration_names_are_in_the_image(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").touch()
    source = "from dataclasses import replace\nfrom fednet.methods.regression.method import METHOD as M\nMETHOD = M\n"
    (tmp_path / "ours" / "fitted.py").write_text(source)
    (tmp_path / "cluster.yaml").write_text("name: ours\nmethod: ours.fitted\nnodes: 2\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    loaded = load_config(tmp_path / "cluster.yaml")
    write_context(loaded, tmp_path / "out")
    assert (tmp_path / "out" / "image" / "modules" / "ours" / "fitted.py").read_text() == source
    text = (tmp_path / "out" / "image" / "Dockerfile").read_text()
    assert "COPY modules /opt/modules\nENV PYTHONPATH=/opt/modules\n" in text


def test_the_module_of_a_rule_is_in_the_image(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "ours_to_rule").mkdir()
    source = (
        "from fednet.rules.contract import Rule, RuleSettings, UpdateRule\n"
        "RULE = Rule('ours', 'ours', updates=UpdateRule(lambda settings, contributions: None, RuleSettings))\n"
    )
    (tmp_path / "ours_to_rule" / "mean.py").write_text(source)
    (tmp_path / "ours_to_rule" / "__init__.py").touch()
    (tmp_path / "cluster.yaml").write_text(
        "name: ours\nmethod: regression\nfederation: {rule: {kind: ours_to_rule.mean}}\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    write_context(load_config(tmp_path / "cluster.yaml"), tmp_path / "out")
    assert (tmp_path / "out" / "image" / "modules" / "ours_to_rule" / "mean.py").read_text() == source
    assert "COPY modules /opt/modules" in (tmp_path / "out" / "image" / "Dockerfile").read_text()


def test_the_module_of_a_python_data_set_is_in_the_image(tmp_path: Path, monkeypatch: Any) -> None:
    source = "def make():\n    return [([[0.0] * 8] * 8, k % 2) for k in range(40)]\n"
    (tmp_path / "ours_of_data.py").write_text(source)
    (tmp_path / "cluster.yaml").write_text(
        "name: ours\nmethod: fedbagan\ndata: {name: python, object: 'ours_of_data:make', size: 8}\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    write_context(load_config(tmp_path / "cluster.yaml"), tmp_path / "out")
    assert (tmp_path / "out" / "image" / "modules" / "ours_of_data.py").read_text() == source
    assert "COPY modules /opt/modules" in (tmp_path / "out" / "image" / "Dockerfile").read_text()


def test_fednet_that_is_not_installed_cannot_be_put_into_an_image(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("launch.render.image.distributions", lambda **_: ())
    with pytest.raises(ConfigError, match="an installed distribution"):
        write_context(load_config("regression"), tmp_path)
