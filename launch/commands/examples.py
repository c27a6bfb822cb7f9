"""The command `fednet examples`: lists the built-in examples, or prints one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from launch.config.examples import example_summaries, example_text
from launch.output import open_console, open_table


def examples(name: Annotated[str | None, typer.Argument(help="The example to print.")] = None) -> None:
    """Lists the built-in examples, or prints one of them."""
    if name is not None:
        sys.stdout.write(example_text(name))
        sys.stdout.flush()  # what it writes may be meant for a file: a full disk is an error here
        return
    table = open_table()
    for known, about in example_summaries().items():
        table.add_row(Text(known, style="bold"), about)
    open_console().print(table)
