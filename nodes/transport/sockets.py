"""One socket: whole messages in and out without copies, what wakes its reader, and whether its path is free.

Refuses to know what frames mean and who is at the other end.

Source: zmq_getsockopt(3) on ZMQ_FD, whose edge-triggering is why every send is followed by a look at ZMQ_EVENTS.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import zmq

from nodes.errors import NodeError
from protocol.frames import Buffer


def descriptor(of: zmq.Socket[bytes]) -> int:
    """What becomes readable when something has happened to a socket; only a reader that has found nothing is woken."""
    return int(of.getsockopt(zmq.FD))


# Operations on pyzmq's flag enums cost microseconds for every message: plain numbers do not.
_EVENTS, _POLLIN, _NOBLOCK, _SOURCE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK), int(zmq.SRCFD)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def readable(of: zmq.Socket[bytes]) -> bool:
    """Whether a message can be received."""
    return bool(int(of.get(_EVENTS)) & _POLLIN)


def send(to: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    """Sends a message without copying its frames."""
    for frame in frames[:-1]:
        to.send(frame, _NOBLOCK_MORE, copy=False)
    to.send(frames[-1], _NOBLOCK, copy=False)


class Received(NamedTuple):
    """A message, in ZeroMQ's own memory.

    Attributes:
        first: its first frame, which knows where it came from.
        frames: all of them.
    """

    first: zmq.Frame
    frames: list[Buffer]


def receive(of: zmq.Socket[bytes]) -> Received | None:
    """The next message; None if there is none."""
    try:
        first = frame = of.recv(_NOBLOCK, copy=False)
    except zmq.Again:
        return None
    frames: list[Buffer] = [frame.buffer]
    while frame.more:
        frame = of.recv(_NOBLOCK, copy=False)
        frames.append(frame.buffer)
    return Received(first, frames)


def source(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a message came by; -1 where there is none, as within a process."""
    try:
        return int(frame.get(_SOURCE))
    except zmq.ZMQError:
        return -1


def require_free(path: Path) -> None:
    """Refuses a path on which somebody listens: ZeroMQ would take it away from them without a word."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise NodeError(f"cannot listen on ipc://{path}: {why}; choose another address") from error
