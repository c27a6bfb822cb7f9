"""The entry point of a node's process, forked from the warmed fork server.

It leaves the terminal's session (Ctrl-C is the supervisor's to handle), writes into its own log, and dies with its
supervisor: `multiprocessing` gives every child the reading end of a pipe whose writing end only the parent holds, so
the end of the parent, even by SIGKILL, is an end of file here. Knows nothing of what a node does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from launch.engines.node_file import read_node_file
from launch.errors import exit_code, explained
from launch.output import settle
from nodes.log_lines import log_to_stderr
from nodes.signals import STOPPING

EXIT_MESSAGE_PREFIX = "fednet: "
"""Begins the message of the error that ends a node, the last of its log."""

_LINES = 8
_TAIL_BYTES = 8192


def main(target: str, node_file: Path, log: Path) -> None:
    """Runs a node to its end, as `fednet node --spec` does, and exits with the code of its error's family.

    Args:
        target: what to call with the node's specification, as "module:function".
        node_file: says which node it is.
        log: the file for its standard output and error.
    """
    gc.freeze()  # what was imported before the fork is never garbage: a collection would touch, and copy, all its pages
    with contextlib.suppress(PermissionError):  # it already leads a session
        os.setsid()
    _redirect_output(log)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # blocked by the fork server; pending ones arrive now
    log_to_stderr()
    try:
        resolve(target)(read_node_file(node_file).node())
    except (Exception, KeyboardInterrupt) as error:
        known = explained(error)
        if known is None:
            logging.exception("this is a fault of fednet")
            _exit_with(f"{type(error).__name__}: {error}", exit_code(error))
        _exit_with(str(known) or type(known).__name__, exit_code(known))


def resolve(target: str) -> Any:
    """The callable that "module:function" names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def exit_message(log: Path) -> str:
    """The last message of a node: its error's, or the last lines of its log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = tail.rstrip().splitlines()
    for number in reversed(range(len(lines))):
        if lines[number].startswith(EXIT_MESSAGE_PREFIX):
            return "\n".join(lines[number:]).removeprefix(EXIT_MESSAGE_PREFIX)
    return "\n".join(lines[-_LINES:])


def _exit_with(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError):  # a log on a full disk must not change the code
        sys.stderr.write(f"{EXIT_MESSAGE_PREFIX}{message}\n")
    settle()
    sys.exit(code)


def _redirect_output(log: Path) -> None:
    """Redirects standard output and error to the log, also those of libraries written in C."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()


def _die_with_parent() -> None:
    """Ends this process, whatever it is doing, when its supervisor is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for the main thread
    threading.Thread(target=wait, name="lifeline", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
