"""The commands of `fednet` as one typer application.

Nothing that is imported here, or at the top of a module of commands, is slow: no torch, no pydantic, no ZeroMQ, no
rich. A command imports what it needs when it is called, and a method when its group of commands is used. Help texts are
plain: the frames and colours of typer's take longer to import than all the rest.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

import fednet
from launch.commands import audit, check, data, examples, fid, init, keys, node, render, runs, sample
from launch.commands import launch as launch_command
from launch.commands.methods import RootGroup
from launch.errors import DEBUG
from launch.output import open_console

app = typer.Typer(
    name="fednet",
    cls=RootGroup,
    help="A peer-to-peer message bus for federated generative models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
    pretty_exceptions_enable=False,
)
for command in (
    launch_command.launch,
    runs.ls,
    runs.logs,
    runs.attach,
    runs.wait,
    runs.stop,
    node.node,
    check.check,
    check.doctor,
    audit.audit,
    data.data,
    init.init,
    examples.examples,
    fid.fid,
    sample.sample,
):
    app.command()(command)
app.add_typer(keys.app, name="keys")
app.add_typer(render.app, name="render")


def _print_version(wanted: bool) -> None:
    if wanted:
        open_console().print(f"fednet {fednet.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks of errors (or set {DEBUG}=1).")] = False,
) -> None:
    """A peer-to-peer message bus for federated generative models."""
    if debug:
        os.environ[DEBUG] = "1"
