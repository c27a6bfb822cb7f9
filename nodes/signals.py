"""The signals that ask a process to stop, and what it exits with when its work was not done.

One rule for every process of fednet: ended by a signal before its work was done it exits with 128 + the signal's number
(SIGINT 130, SIGTERM 143, SIGHUP 129), as a shell says it; whoever works until it is told to stop (a client, a relay, a
monitor, a cluster that serves) has done its work and exits with 0. A signal that is ignored (`nohup`) stays ignored.
Knows signals only, neither nodes nor commands.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a launch, or one of its nodes, to end."""

_raised: list[int] = []
"""Signals that `raised` has raised: what raises while a library is imported may be swallowed there."""


class StopSignal(SystemExit):
    """A signal has ended this process before its work was done.

    Attributes:
        number: the signal.
        exit_code: what the process exits with, 128 + the signal's number.
    """

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        self.exit_code = 128 + number
        super().__init__(self.exit_code)

    def __str__(self) -> str:
        return f"interrupted by {self.number.name}"


@contextmanager
def raised() -> Iterator[None]:
    """While the body runs, SIGTERM and SIGHUP raise `StopSignal`, from the first moment on and as PID 1, too.

    A process with the number 1 (of a container) has no default handlers: what it does not handle is lost. One that a
    library swallows is raised by `raise_swallowed`, or told as soon as somebody is to be `told`.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        _raised.append(number)
        raise StopSignal(number)

    before = {number: signal.getsignal(number) for number in _handled() if number != signal.SIGINT}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        _raised.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_swallowed() -> None:
    """Raises a signal again that was raised and that somebody has swallowed.

    Raises:
        StopSignal: there is one.
    """
    if _raised and threading.current_thread() is threading.main_thread():
        raise StopSignal(_raised[0])


@contextmanager
def told(stop: Callable[[int], object]) -> Iterator[None]:
    """While the body runs, a signal is `stop`'s to handle, on the running event loop; earlier handlers come back."""
    import asyncio  # noqa: PLC0415 - a command has its handlers before it imports anything slow

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _handled()}
    for number in before:
        loop.add_signal_handler(number, stop, number)
    for swallowed in _raised:
        loop.call_soon(stop, swallowed)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _handled() -> tuple[signal.Signals, ...]:
    """The signals that this thread may handle: none off the main thread, and none that is ignored."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    return tuple(number for number in STOPPING if signal.getsignal(number) not in {signal.SIG_IGN, None})
