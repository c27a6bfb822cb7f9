"""`fednet examples` lists the built-in examples and prints one as it is."""

from __future__ import annotations

from typer.testing import CliRunner

from launch.commands.app import app
from launch.config.examples import example_texts


def test_every_example_is_listed_with_its_first_line() -> None:
    shown = CliRunner().invoke(app, ["examples"], env={"COLUMNS": "200"}).stdout
    for name, text in example_texts().items():
        assert name in shown
        assert text.split("\n", 1)[0].lstrip("# ")[:60] in shown


def test_an_example_is_printed_byte_for_byte() -> None:
    for name, text in example_texts().items():
        assert CliRunner().invoke(app, ["examples", name]).stdout == text
