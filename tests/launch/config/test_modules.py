"""A package beside a configuration is found, and what is wrong with it is said with the place in the configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from launch.config.modules import make_importable, named_modules
from launch.config.schema import load_config
from launch.errors import ConfigError

METHOD = """
from dataclasses import replace
from fednet.methods.registry import find
METHOD = replace(find("regression"), name="{package}.method")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for configurations; this process's path of modules is restored."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(folder: Path, package: str, source: str, **more: str) -> Path:
    """A configuration that names a method beside it."""
    (folder / package).mkdir()
    (folder / package / "method.py").write_text(source.format(package=package))
    lines = ["name: outside", f"method: {package}.method", *(f"{key}: {value}" for key, value in more.items())]
    (folder / "cluster.yaml").write_text("\n".join(lines) + "\n")
    return folder / "cluster.yaml"


def test_a_method_beside_the_configuration_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, "outside_found", METHOD, rounds="3")
    monkeypatch.chdir(Path("/"))
    loaded = load_config(path)
    assert loaded.cluster.method == "outside_found.method"
    assert loaded.method.model_dump()["rounds"] == 3


RULE = """
from fednet.rules.contract import Rule, RuleSettings, UpdateRule
RULE = Rule("ours", "ours", updates=UpdateRule(lambda settings, contributions: None, RuleSettings))
"""


def test_a_rule_beside_the_configuration_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "outside").mkdir()
    (folder / "outside" / "rule.py").write_text(RULE)
    (folder / "c.yaml").write_text("name: x\nmethod: regression\nfederation: {rule: {kind: outside.rule}}\n")
    monkeypatch.chdir(Path("/"))
    assert load_config(folder / "c.yaml").method.model_dump()["federation"]["rule"]["kind"] == "outside.rule"


@pytest.mark.parametrize(
    ("package", "source", "message"),
    [
        ("outside_needy", "import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
        ("outside_raising", "raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("outside_empty", "", "has no attribute 'METHOD'"),
        ("outside_number", "METHOD = 3", "outside_number.method:METHOD is a int"),
    ],
)
def test_a_broken_method_is_one_error_with_its_place(folder: Path, package: str, source: str, message: str) -> None:
    path = write(folder, package, source)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{path}:2: method: ")
    assert message in str(problem)


def test_a_missing_data_set_is_one_error_with_its_place(folder: Path) -> None:
    (folder / "cluster.yaml").write_text("name: x\nmethod: fedbagan\ndata: {name: outside.nothing}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(folder / "cluster.yaml")
    problem = caught.value.problems[0]
    assert str(problem).startswith(f"{folder / 'cluster.yaml'}:3: data.name: ")
    assert "No module named 'outside" in str(problem)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"method": "regression"}, False),
        ({"method": "a.b"}, True),
        ({"method": 3, "data": {"name": "digits"}, "nodes": 4}, False),
        ({"method": "regression", "data": {"name": "a.b"}}, True),
        ({"method": "regression", "data": {"name": "python", "object": "ours:make"}}, True),
        ({"method": "regression", "nodes": {"a1": {"data": {"name": "a.b"}}, "a2": None}}, True),
        ({"method": "regression", "measure": {"data": {"name": "a.b"}}}, True),
        ({"method": "regression", "federation": {"rule": {"kind": "mean"}}}, False),
        ({"method": "regression", "federation": {"rule": {"kind": "a.b", "power": 2}}}, True),
        ({"method": "score-inference", "arms": {"mine": {"rule": "a.b"}}}, True),
    ],
)
def test_a_dotted_method_or_data_set_is_a_module(values: dict[str, Any], expected: bool) -> None:
    assert bool(named_modules(values)) is expected


def test_the_latest_folder_is_first(folder: Path) -> None:
    make_importable(folder)
    make_importable(folder / "inner")
    make_importable(folder)
    assert sys.path[:2] == [str(folder), str(folder / "inner")]
