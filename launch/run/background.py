"""A launch that goes on after its terminal is closed: the command forks, and what goes on has a session of its own.

The fork comes before anything slow is imported: no thread, no torch, no socket is in its way. Whatever goes wrong until
the run's folder is locked is shown on the terminal, with the exit code of its family, since the command waits for it;
after that the output goes to a file in the folder. What goes on never holds the terminal: what it writes until then
passes through the command, so that `fednet launch --detach | tee FILE`, or over ssh, ends with the command and not with
the run, whichever helpers have inherited the output.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
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
    output, errors = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        for descriptor in (told, output[1], errors[1]):
            os.close(descriptor)
        _wait_for(child, heard, {output[0]: 1, errors[0]: 2})
    os.setsid()
    os.dup2(output[1], 1)
    os.dup2(errors[1], 2)
    for descriptor in (heard, *output, *errors):
        os.close(descriptor)
    _redirect(Path(os.devnull), os.O_RDONLY, 0)

    def leave(folder: Path) -> None:
        settle()
        _redirect(folder / SCREEN, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1, 2)
        os.write(told, b".")
        os.close(told)

    return leave


def _wait_for(child: int, heard: int, streams: Mapping[int, int]) -> NoReturn:
    try:
        goes_on = _relay(heard, streams)
    except BaseException:  # a signal for this process, which the other one's session does not get
        os.kill(child, signal.SIGTERM)
        raise
    if goes_on:
        sys.exit(EXIT_OK)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


def _relay(heard: int, streams: Mapping[int, int]) -> bool:
    """Passes on all that the other has written until it goes on (True) or has ended."""
    waiting, goes_on = {heard, *streams}, False
    while ready := select.select(waiting, [], [], None if heard in waiting else 0)[0]:
        for source in ready:
            data = os.read(source, 65536)
            if source == heard:
                goes_on = bool(data)
            elif data:
                with suppress(OSError):  # what cannot be shown ends nothing
                    os.write(streams[source], data)
            if source == heard or not data:
                waiting.discard(source)
    return goes_on


def _redirect(path: Path, flags: int, *descriptors: int) -> None:
    opened = os.open(path, flags, 0o644)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)
