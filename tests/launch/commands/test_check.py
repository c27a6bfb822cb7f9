"""`fednet check` and `fednet doctor`: what they print, and what they pass on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from launch.commands.app import app
from launch.errors import ConfigError
from launch.run import doctor


def test_check_prints_what_would_be_started() -> None:
    done = CliRunner().invoke(app, ["check", "regression", "--set", "nodes=2", "--set", "seed=7"])
    assert done.exit_code == 0
    assert "regression is fine: method regression, seed 7" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines()[2:]] == ["client", "client", "guest"]


def test_doctor_gets_the_key_and_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(doctor, "run_doctor", lambda *arguments, **options: calls.append((arguments, options)))
    assert CliRunner().invoke(app, ["doctor", "regression", "--key", "a.key", "--out", "there"]).exit_code == 0
    ((_, out, _), options), *_ = calls
    assert (out, options) == (Path("there"), {"key": Path("a.key"), "insecure": False, "as_json": False})


def test_check_prints_the_classes_with_their_labels() -> None:
    done = CliRunner().invoke(app, ["check", "score-inference", "--set", "nodes=2"])
    assert done.exit_code == 0, done.output
    assert "data of a1, a2, driver" in done.stdout
    assert ["3", "3", "183"] in [line.split() for line in done.stdout.splitlines()]


def test_check_looks_only_at_what_lies_here(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "name: x\nmethod: score-inference\nnodes:\n  a1: {listen: 'tcp://127.0.0.1:7411'}\n"
        "  a2: {listen: 'tcp://203.0.113.7:7000', device: 'cuda:7', data: {name: folder, root: /nowhere}}\n"
    )
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 0, done.output
    assert "data of a1\n" in done.stdout
    assert ["a2", "client", "elsewhere"] in [line.split()[:3] for line in done.stdout.splitlines()]


def test_check_reads_every_file(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{index}.png")
    (tmp_path / "dog" / "last.png").write_bytes((tmp_path / "dog" / "0.png").read_bytes()[:45])
    data = f"data={{name: folder, root: {tmp_path}}}"
    done = CliRunner().invoke(app, ["check", "score-inference", "--set", data])
    assert isinstance(done.exception, ConfigError)
    assert "last.png is not a readable image" in str(done.exception)


def test_check_for_programs_prints_one_value() -> None:
    nodes = "nodes={a1: {listen: 'tcp://127.0.0.1:7411'}, a2: {listen: 'tcp://203.0.113.7:7000'}}"
    found = json.loads(CliRunner().invoke(app, ["check", "regression", "--json", "--set", nodes]).stdout)
    assert (found["method"], found["seed"], found["images"]) == ("regression", 0, None)
    assert [(node["name"], node["here"], node["listen"]) for node in found["nodes"]] == [
        ("a1", True, "tcp://127.0.0.1:7411"),
        ("a2", False, "tcp://203.0.113.7:7000"),
    ]
    images = json.loads(CliRunner().invoke(app, ["check", "score-inference", "--json"]).stdout)["images"]
    assert set(images["sites"]) == {"a1", "a2", "a3", "a4", "a5"}


def test_doctor_for_programs_prints_what_is_wrong_and_ends_with_its_code() -> None:
    done = CliRunner().invoke(app, ["doctor", "regression", "--json", "--set", "devices.device=cuda:99"])
    assert isinstance(done.exception, ConfigError)
    found = {each["what"]: each["state"] for each in json.loads(done.stdout)}
    assert (found["versions"], found["devices, ports"]) == ("fine", "wrong")
