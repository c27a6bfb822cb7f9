"""A node of any role whose address to join through is wrong says so, and ends with it once its patience is over."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import zmq

from nodes import join_watch
from nodes.client import run_client
from nodes.driver import run_driver
from nodes.errors import PeersMissing
from nodes.monitor import Monitor
from nodes.spec import NodeSpec, Timing
from protocol import codec
from protocol.codec import Envelope
from protocol.header import VERSION
from protocol.messages import Heartbeat
from protocol.topics import HEARTBEATS


async def monitor(spec: NodeSpec) -> None:
    async with Monitor(spec, lambda _event: None):
        await asyncio.Event().wait()


ROLES: dict[str, Callable[[NodeSpec], Coroutine[Any, Any, None]]] = {
    "client": lambda spec: run_client(spec, asyncio.Event()),
    "guest": lambda spec: run_driver(spec, asyncio.Event()),
    "monitor": monitor,
}


@asynccontextmanager
async def unresolvable() -> AsyncIterator[str]:
    yield "tcp://no-such-host.invalid:7400"


@asynccontextmanager
async def closed() -> AsyncIterator[str]:
    """An address where nobody listens: it is bound for as long."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{held.getsockname()[1] - 1}"


@asynccontextmanager
async def of_another_version() -> AsyncIterator[str]:
    """Somebody whose heartbeats are of the next version of the wire."""
    beat = Envelope(HEARTBEATS, "test", "c0", 1, 0, Heartbeat(tick=1, latest={}))
    frames = [bytes(frame) for frame in codec.encode(beat)]
    frames[1] = frames[1][:1] + bytes([VERSION + 1]) + frames[1][2:]
    with zmq.Context() as context, context.socket(zmq.PUB) as beats:
        beats.linger = 0
        port = beats.bind_to_random_port("tcp://127.0.0.1")

        async def repeat() -> None:
            while True:
                beats.send_multipart(frames)
                await asyncio.sleep(0.01)

        beating = asyncio.create_task(repeat())
        yield f"tcp://127.0.0.1:{port - 1}"
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


WRONG = {
    "unresolvable": (unresolvable, r"the host of tcp://no-such-host.invalid:7400 .* cannot be resolved"),
    "closed": (closed, r"nobody listens at tcp://127\.0\.0\.1:\d+ .* yet"),
    "version": (of_another_version, rf"it speaks version {VERSION + 1} of the wire, and this is {VERSION}"),
}


@pytest.fixture(autouse=True)
def at_once(scaling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look is not waited for."""
    monkeypatch.setattr(join_watch, "FIRST_LOOK", 0.01)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("role", ROLES)
async def test_it_is_said_and_is_the_end(
    role: str, wrong: str, real_spec: Callable[..., NodeSpec], caplog: pytest.LogCaptureFixture
) -> None:
    address, said = WRONG[wrong]
    async with address() as join:
        spec = real_spec("one", role, join=(join,), expected=("one", "c0"), timing=Timing(ready=2.0))
        with caplog.at_level(logging.WARNING), pytest.raises(PeersMissing, match=f"not ready after 2 s: .*{said}"):
            await ROLES[role](spec)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == join_watch.__name__]
    assert warning.startswith(f"{join}: ")
    assert warning.endswith("; this node gives up after 2 s (`bus.timing.ready`)")
