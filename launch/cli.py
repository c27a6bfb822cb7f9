"""The command `fednet`: the process around its commands, from the first signal to the exit code.

Handles signals before anything slow is imported, gives every error one message and the exit code of its family, and
settles standard output. The commands are `launch.commands.app`'s.
"""

from __future__ import annotations

import os

from fednet.text import plain_lines
from launch.output import open_console, settle, tolerate_encoding
from nodes.signals import StopSignal, raised


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code of an error's family, see `launch.errors`; typer itself exits where there is none.
    """
    tolerate_encoding()
    try:
        with raised():
            return _run()
    except StopSignal as stop:
        _show(stop)
        return stop.exit_code
    finally:
        settle()


def _run() -> int:
    from launch.commands.app import app  # noqa: PLC0415 - a signal may come meanwhile
    from launch.errors import DEBUG, EXIT_OK, exit_code, explained  # noqa: PLC0415

    try:
        app()
    except Exception as error:
        known = explained(error)
        if known is None or os.environ.get(DEBUG):
            raise
        _show(known)
        return exit_code(known)
    return EXIT_OK


def _show(error: BaseException) -> None:
    open_console(stderr=True).print(
        f"fednet: {plain_lines(str(error))}", markup=False, highlight=False, soft_wrap=True, style="red"
    )
