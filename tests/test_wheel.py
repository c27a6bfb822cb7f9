"""The built wheel works outside the checkout: packages, examples and templates are all in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, built twice: in two time zones."""
    built: list[Path] = []
    for name, zone in (("one", "UTC"), ("two", "Asia/Tokyo")):
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        environment = {**os.environ, "TZ": zone, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        built += folder.glob("fednet-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-deps", "--no-compile", "--target", target, wheels[0]], check=True)
    return target


def fednet(installed: Path, *arguments: str) -> str:
    """What the command line of the installed wheel prints."""
    code = "import launch, sys; assert launch.__file__.startswith(sys.argv.pop(1)); from launch.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code, str(installed), *arguments]
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_are_in_the_wheel(installed: Path) -> None:
    listed = fednet(installed, "examples")
    for example in (ROOT / "launch" / "examples").glob("*.yaml"):
        assert example.stem in listed


def test_the_version_is_the_project_s(installed: Path) -> None:
    assert "0.1.0" in fednet(installed, "--version")


@pytest.mark.parametrize("example", ["regression", pytest.param("score-inference", marks=pytest.mark.slow)])
def test_an_example_checks_out(installed: Path, example: str) -> None:
    fednet(installed, "check", example)


def test_every_file_of_the_packages_is_in_the_wheel(installed: Path) -> None:
    packages = ("fednet", "nodes", "protocol", "launch")
    files = [path for package in packages for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT) for path in files if "__pycache__" not in path.parts}
    assert wanted <= {path.relative_to(installed) for path in installed.rglob("*")}


def test_the_report_s_template_is_in_the_wheel(installed: Path) -> None:
    assert list((installed / "launch" / "report" / "templates").glob("*.html*"))


def test_methods_and_data_sets_are_registered_by_the_wheel(installed: Path) -> None:
    (metadata,) = installed.glob("fednet-*.dist-info")
    registered = (metadata / "entry_points.txt").read_text()
    assert "[fednet.methods]" in registered
    assert "[fednet.data]" in registered
    assert "[fednet.rules]" in registered


def test_the_templates_of_init_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    fednet(installed, "init", str(tmp_path / "new"), "--blank")
    assert {"cluster.yaml", "my_method", "test_my_method.py"} <= {path.name for path in (tmp_path / "new").iterdir()}


def test_two_builds_are_the_same_bytes(wheels: list[Path]) -> None:
    """Times, order and permissions in the wheel are not those of the build (SOURCE_DATE_EPOCH, or hatchling's own)."""
    one, two = wheels
    assert one.read_bytes() == two.read_bytes()
