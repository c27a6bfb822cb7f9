"""The command `fednet examples`: lists the built-in examples, or prints one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from launch.commands.options import JsonOption
from launch.config.examples import example_summaries, example_text
from launch.output import open_console, open_table, print_json


def examples(
    name: Annotated[str | None, typer.Argument(help="The example to print.")] = None, as_json: JsonOption = False
) -> None:
    """Lists the built-in examples, or prints one of them."""
    if name is not None:
        text = example_text(name)
        if as_json:
            print_json({"name": name, "text": text})
            return
        sys.stdout.write(text)
        sys.stdout.flush()  # what it writes may be meant for a file: a full disk is an error here
        return
    if as_json:
        print_json([{"name": known, "about": about} for known, about in example_summaries().items()])
        return
    from rich.text import Text  # noqa: PLC0415 - help needs no rich

    table = open_table()
    for known, about in example_summaries().items():
        table.add_row(Text(known, style="bold"), about)
    open_console().print(table)
