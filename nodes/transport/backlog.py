"""What one socket has yet to send, in bytes: ZeroMQ counts messages and tells nobody how many wait.

A large frame that is handed over without a copy lives until its slowest subscriber has taken it or lost its connection,
and a weak reference notices. Small frames are copied: the high-water mark bounds them. Refuses to know who subscribes.

Source: pyzmq's `Socket.copy_threshold`; zmq_msg_init_data(3) on when a buffer is let go.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import zmq

from protocol.frames import Buffer

_Held = list[tuple[weakref.ref[memoryview], int]]


class Backlog:
    """Large frames on their way out."""

    def __init__(self) -> None:
        self._waiting: _Held = []

    def hold(self, frames: Iterable[Buffer]) -> list[memoryview]:
        """A message to send without copies: each view lives for as long as anybody has yet to take it."""
        views = [memoryview(frame) for frame in frames]
        large: _Held = [(weakref.ref(view), view.nbytes) for view in views if view.nbytes >= zmq.COPY_THRESHOLD]
        if large:
            self._waiting = [*_alive(self._waiting), *large]
        return views

    def bytes(self) -> int:
        """How much waits."""
        self._waiting = _alive(self._waiting)
        return sum(size for _, size in self._waiting)

    def strand(self) -> None:
        """Whoever has not taken what waits now is gone: it counts no more, though it stays until ZeroMQ lets it go."""
        self._waiting = []


def _alive(held: _Held) -> _Held:
    return [(view, size) for view, size in held if view() is not None]
