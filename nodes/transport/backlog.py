"""What one socket has yet to send, in bytes: ZeroMQ counts messages and tells nobody how many wait.

A large frame that is handed over without a copy lives until its slowest subscriber has taken it or lost its connection,
and a weak reference notices. Small frames are copied: the high-water mark bounds them. Refuses to know who subscribes,
but for the topics, of which a node's inbox is heard by that node alone.

Source: pyzmq's `Socket.copy_threshold`; zmq_msg_init_data(3) on when a buffer is let go.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.frames import Buffer
from protocol.topics import INBOX

COPIED_BELOW = 256 << 10
"""Bytes of the smallest frame that is not copied, as for the sockets' `copy_threshold`: to let go of one that is not
takes a thread of pyzmq's and some 50 us, which copies 256 KiB on any machine."""


@dataclass(slots=True)
class _Waiting:
    """A large frame that somebody may have yet to take; stranded: only somebody who is gone."""

    view: weakref.ref[memoryview]
    size: int
    topic: bytes
    stranded: bool = False


class Backlog:
    """Large frames on their way out."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def hold(self, frames: Sequence[Buffer]) -> list[memoryview]:
        """A message to send without copies: each view lives for as long as anybody has yet to take it."""
        views = [memoryview(frame) for frame in frames]
        large = [view for view in views if view.nbytes >= COPIED_BELOW]
        if large:
            topic = bytes(views[0])
            self._prune()
            self._waiting += [_Waiting(weakref.ref(view), view.nbytes, topic) for view in large]
        return views

    def is_full(self, frames: Sequence[Buffer], limit: int) -> bool:
        """Whether so many bytes wait for one peer that a large message to its inbox is too much."""
        topic = bytes(frames[0])
        return (
            topic.startswith(INBOX.encode())
            and any(len(frame) >= COPIED_BELOW for frame in frames)
            and self.bytes(topic.decode()) >= limit
        )

    def bytes(self, topic: str | None = None) -> int:
        """How much waits: of one topic all that does, of all topics without what was stranded."""
        self._prune()
        if topic is None:
            return sum(each.size for each in self._waiting if not each.stranded)
        name = topic.encode()
        return sum(each.size for each in self._waiting if each.topic == name)

    def strand(self) -> None:
        """Whoever has not taken what waits now is gone: it counts no more, though it stays until ZeroMQ lets it go."""
        for each in self._waiting:
            each.stranded = True

    def _prune(self) -> None:
        self._waiting = [each for each in self._waiting if each.view() is not None]
