"""No connection ends between libzmq's look at a message and its receipt, which would end the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from nodes.transport.links import Links
from nodes.transport.zmq import BATCH, BATCH_BYTES, ZmqTransport

FIRST, SECOND = "tcp://127.0.0.1:7001", "tcp://127.0.0.1:7003"


class Subscriber:
    """Stands in for a SUB: a look at its events begins to read a message, as in libzmq.

    There the end of a connection in between fails the assertion `!_more` of src/fq.cpp at the next frame.
    """

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.begun = False

    def get(self, option: int) -> int:
        assert option == zmq.EVENTS
        self.begun = bool(self.waiting)
        return int(zmq.POLLIN) if self.waiting else 0

    def recv(self, flags: int, *, copy: bool) -> Any:
        if not self.waiting:
            raise zmq.Again
        self.begun = False
        return SimpleNamespace(buffer=memoryview(self.waiting.popleft()), more=False)

    def connect(self, address: str) -> None:
        """Nothing to do."""

    def disconnect(self, address: str) -> None:
        assert not self.begun


@pytest.fixture
async def subscriber() -> AsyncIterator[tuple[ZmqTransport, Subscriber, list[bytes]]]:
    """A transport that reads from a stand-in, and what it hands on."""
    transport, stand_in, heard = ZmqTransport(), Subscriber(), list[bytes]()

    def received(frames: Any, origin: str = "") -> None:
        heard.append(bytes(frames[0]))
        transport.disconnect(FIRST)
        transport.connect(FIRST)

    real, transport._in = transport._in, stand_in  # type: ignore[assignment]
    transport._listener = SimpleNamespace(received=received)  # type: ignore[assignment]
    transport._loop = asyncio.get_running_loop()
    transport._links = Links(stand_in, None, lambda: transport._soon(transport._hear))  # type: ignore[arg-type]
    transport._links.start(transport._loop)
    yield transport, stand_in, heard
    transport._loop, transport._in = None, real
    transport._release()


async def turns(until: Callable[[], bool]) -> None:
    """Lets the event loop go round."""
    for _ in range(100):
        if until():
            return
        await asyncio.sleep(0)
    raise AssertionError("the transport has stopped reading")


async def test_whoever_hears_a_message_may_disconnect_while_others_wait(subscriber: Any) -> None:
    transport, stand_in, heard = subscriber
    sent = [str(number).encode() for number in range(2 * BATCH + 1)]
    stand_in.waiting.extend(sent)
    transport._hear()
    assert len(heard) == BATCH
    await turns(lambda: len(heard) == len(sent))
    assert heard == sent


async def test_a_turn_ends_with_its_bytes_as_well(subscriber: Any) -> None:
    transport, stand_in, heard = subscriber
    sent = [str(number).encode() * (BATCH_BYTES // 4) for number in range(9)]
    stand_in.waiting.extend(sent)
    transport._hear()
    assert len(heard) == 4
    await turns(lambda: len(heard) == len(sent))
    assert heard == sent


async def test_what_came_before_a_connection_may_wait_while_another_ends(subscriber: Any) -> None:
    transport, stand_in, heard = subscriber
    transport.connect(FIRST)
    stand_in.waiting.append(b"early")
    transport.connect(SECOND)
    transport.disconnect(FIRST)
    await turns(lambda: heard == [b"early"])


async def test_a_signal_without_a_message_is_no_message(subscriber: Any) -> None:
    transport, _, heard = subscriber
    transport._hear()
    assert heard == []
