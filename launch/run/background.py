"""A launch that goes on after its terminal is closed: the command forks, and what goes on has a session of its own.

The fork comes before anything slow is imported: no thread, no torch, no socket is in its way. Whatever goes wrong until
the run's folder is locked is shown on the terminal, with the exit code of its family, since the command waits for it;
after that the output goes to a file in the folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from launch.errors import EXIT_OK
from launch.output import settle

SCREEN: Final = "screen.log"
"""What a launch in the background would have shown; beside the logs of the nodes."""


def go_on_in_background() -> Callable[[Path], None]:
    """Returns in a process of its own; this one waits until that has a folder to run in, and ends.

    Returns:
        What to call with the folder for output: from then on nobody waits, and the terminal is left alone.

    Raises:
        SystemExit: in the process that waits: 0 once the other goes on, or what that has exited with.
    """
    settle()  # what is buffered is written once
    heard, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        _wait_for(child, heard)
    os.close(heard)
    os.setsid()
    _redirect(Path(os.devnull), os.O_RDONLY, 0)

    def leave(folder: Path) -> None:
        settle()
        _redirect(folder / SCREEN, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1, 2)
        os.write(told, b".")
        os.close(told)

    return leave


def _wait_for(child: int, heard: int) -> NoReturn:
    try:
        goes_on = os.read(heard, 1)  # nothing: it has ended
    except BaseException:  # a signal for this process, which the other one's session does not get
        os.kill(child, signal.SIGTERM)
        raise
    if goes_on:
        sys.exit(EXIT_OK)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


def _redirect(path: Path, flags: int, *descriptors: int) -> None:
    opened = os.open(path, flags, 0o644)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)
