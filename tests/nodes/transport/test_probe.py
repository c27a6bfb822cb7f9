"""Looking for a peer at an address: what is in the way is told, each for itself, of nodes that are really there."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport import probe as probing
from nodes.transport.probe import ProbeResult, probe
from nodes.transport.zmq import ZmqTransport
from protocol.security.keys import Keyring, PrivateKeys

KEYS = {name: PrivateKeys.make(name) for name in ("anna", "ben", "stranger")}
TRUSTED = [KEYS["anna"].public, KEYS["ben"].public]


def ring(name: str) -> Keyring:
    return Keyring.of(KEYS[name], TRUSTED)


class Run:
    """Nodes that are up."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack

    async def up(self, name: str, *, keyed: bool = True) -> str:
        keys = ring(name) if keyed else None
        spec = NodeSpec(name, "client", "run", "tcp://127.0.0.1:0", keys=keys)
        return (await self.stack.enter_async_context(Node(spec, ZmqTransport(keys=keys)))).address


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:
        yield Run(stack)


async def look(address: str, name: str = "anna", run: str = "run", mine: str | None = "ben") -> ProbeResult:
    keys = ring(mine) if mine else None
    return await asyncio.to_thread(probe, name, address, run, keys, 10.0)


@pytest.mark.parametrize("keyed", [True, False])
async def test_who_is_there_is_heard_with_its_clock(run: Run, keyed: bool) -> None:
    found = await look(await run.up("anna", keyed=keyed), mine="ben" if keyed else None)
    assert found.state == "heard"
    assert abs(found.ahead) < 5


async def test_a_clock_that_is_wrong_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "time", SimpleNamespace(time=lambda: time.time() - 3600, monotonic=time.monotonic))
    assert (await look(await run.up("anna"))).ahead == pytest.approx(3600, abs=5)


@pytest.mark.parametrize(
    ("about", "there", "mine", "words"),
    [
        ("the endpoint is another's", "ben", "anna", "does not hold the key of anna"),
        ("it does not know us", "anna", "stranger", "anna does not trust stranger"),
        ("it has keys", "anna", None, "has keys, and here are none"),
        ("it has none", "", "ben", "anna runs without keys"),
    ],
)
async def test_keys_that_do_not_fit_are_told_apart(run: Run, about: str, there: str, mine: str, words: str) -> None:
    address = await run.up(there or "anna", keyed=bool(there))
    found = await look(address, mine=mine)
    assert (found.state, words in found.about) == ("keys", True), f"{about}: {found}"


async def test_another_run_another_name_another_version(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    address = await run.up("anna", keyed=False)
    assert (await look(address, run="other", mine=None)).about == "it belongs to the run run, and this is other"
    assert (await look(address, name="carl", mine=None)).about == "it is anna, not carl"
    monkeypatch.setattr(probing, "VERSION", 99)
    assert (await look(address, mine=None)).state == "version"


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_port_where_nobody_speaks_zeromq(port: socket.socket) -> None:
    address = f"tcp://127.0.0.1:{port.getsockname()[1] - 1}"
    assert probe("anna", address, "run", None, 0.3).state == "silent"


def test_a_port_where_nobody_listens(port: socket.socket) -> None:
    number = port.getsockname()[1]
    port.close()
    assert probe("anna", f"tcp://127.0.0.1:{number - 1}", "run", None, 0.3).state == "not up"


def test_a_machine_that_is_not_there() -> None:
    assert probe("anna", "tcp://no-such-host.invalid:7000", "run", None, 0.3).state == "unreachable"
