"""Work that peers ask for, done in turns of the event loop: what one of them causes holds up nobody else.

A request of 200 bytes may ask for megabytes to be read, signed and encrypted. Each piece of such work says how many
bytes it was; after `TURN_BYTES` of them the loop does what else has come, and the next turn is another peer's, if one
waits. Knows neither what the work is nor who may ask for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator

from nodes.fault_boundary import FaultBoundary

TURN_BYTES = 1 << 20
"""Bytes after which a turn is over: some milliseconds of hashing and encrypting. A single piece may be larger."""

MAX_WAITING = 64
"""Requests of one peer that wait; a further one is refused."""


class Turns:
    """The work that waits, by the peer that has asked for it.

    Args:
        boundary: contains the errors of the work, which ends with one.
    """

    def __init__(self, boundary: FaultBoundary) -> None:
        self._boundary = boundary
        self._waiting: OrderedDict[str, deque[Iterator[int]]] = OrderedDict()
        self._arranged = False

    def add(self, name: str, work: Iterator[int]) -> bool:
        """Does this once it is its turn, after what its peer has asked for before.

        Args:
            name: the peer.
            work: each step is a piece and gives its bytes; nothing is done before the first.

        Returns:
            Whether it will be done; not while `MAX_WAITING` requests of the peer wait.
        """
        if len(self._waiting.get(name, ())) >= MAX_WAITING:
            return False
        self._waiting.setdefault(name, deque()).append(work)
        self._arrange()
        return True

    def forget(self, name: str) -> None:
        """A peer has left: nothing of what it has asked for is done any more."""
        self._waiting.pop(name, None)

    def _arrange(self) -> None:
        if self._waiting and not self._arranged:
            self._arranged = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """The next pieces for the peer that has waited longest."""
        self._arranged = False
        if not self._waiting:
            return
        name, works = self._waiting.popitem(last=False)
        self._waiting[name] = works  # the last one from now on
        done = 0
        while works and done < TURN_BYTES:
            size: int | None = None
            with self._boundary.around(name, "request"):
                size = next(works[0], None)
            if size is None:
                works.popleft()
            else:
                done += size
        if not works and self._waiting.get(name) is works:
            del self._waiting[name]
        self._arrange()
