"""`fednet examples` lists the built-in examples and prints one as it is."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from launch.commands.app import app
from launch.config.examples import example_summaries, example_texts


def test_every_example_is_listed_with_a_whole_sentence() -> None:
    shown = CliRunner().invoke(app, ["examples"], env={"COLUMNS": "60"}).stdout
    words = " ".join(shown.split())
    for name, about in example_summaries().items():
        assert f"{name} {about}" in words


def test_an_example_is_printed_byte_for_byte() -> None:
    for name, text in example_texts().items():
        assert CliRunner().invoke(app, ["examples", name]).stdout == text


def test_examples_for_programs() -> None:
    listed = json.loads(CliRunner().invoke(app, ["examples", "--json"]).stdout)
    assert {each["name"]: each["about"] for each in listed} == example_summaries()
    one = json.loads(CliRunner().invoke(app, ["examples", "control", "--json"]).stdout)
    assert one == {"name": "control", "text": example_texts()["control"]}
