"""The command `fednet examples`: lists the built-in examples, or prints one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from launch.config.examples import example_summaries, example_text
from launch.output import open_console


def examples(name: Annotated[str | None, typer.Argument(help="The example to print.")] = None) -> None:
    """Lists the built-in examples, or prints one of them."""
    if name is not None:
        sys.stdout.write(example_text(name))
        sys.stdout.flush()  # what it writes may be meant for a file: a full disk is an error here
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for known, about in example_summaries().items():
        table.add_row(f"[bold]{known}[/]", about)
    open_console().print(table)
