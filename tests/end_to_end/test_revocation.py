"""`fednet keys revoke` while nodes run: the one who is revoked hears nothing more, and the others notice nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from launch.run import keys
from nodes.monitor import Monitor, RunEvent
from nodes.spec import NodeSpec
from tests.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATIENCE = 60.0
SITES = ("a1", "a2")


@pytest.fixture(scope="module")
def sites(terminal: Any) -> Any:
    """Two running sites of two operators, who trust each other and a monitor; by name, and where the first one is."""
    folders = {name: terminal.folder / "revocation" / name for name in (*SITES, "eve")}
    for name, folder in folders.items():
        keys.create_keys(name, folder, "monitor" if name == "eve" else "client")
    for mine in sorted(folders):
        for other in set(folders) - {mine}:
            keys.trust_keys(folders[other] / f"{other}.pub", folders[mine])
    ports = free_ports()
    address = {name: f"tcp://127.0.0.1:{next(ports)}" for name in SITES}
    for _ in SITES:
        next(ports)
    running = {}
    for name, other in (SITES, SITES[::-1]):
        running[name] = terminal.start(
            "node", "--role", "client", "--name", name, "--config", "regression", "--set", "nodes=2",
            "--set", "devices.threads=1", "--key", folders[name] / f"{name}.key", "--listen", address[name],
            "--join", f"{other}@{address[other]}", "--out", f"{name}-revocation",
        )  # fmt: skip
    for name, other in (SITES, SITES[::-1]):
        running[name].says(rf"linked with {other}")
    return terminal, folders, running, address


class Watch:
    """What the monitor hears, and waiting for it."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self._changed = asyncio.Event()

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)
        self._changed.set()

    def nodes(self, kind: str) -> set[str]:
        return {event.node for event in self.events if event.kind == kind}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def test_who_is_revoked_hears_nothing_more(sites: Any, caplog: pytest.LogCaptureFixture) -> None:
    terminal, folders, running, address = sites
    join = tuple(f"{name}@{address[name]}" for name in SITES)
    ring = keys.node_keyring("eve", folders["eve"])
    spec = NodeSpec("eve", "monitor", "", "tcp://127.0.0.1:0", join=join, keys=ring)
    watch = Watch()
    with caplog.at_level(logging.WARNING):
        async with Monitor(spec, watch) as monitor:
            await watch.until(lambda: watch.nodes("joined") == set(SITES))
            for name in SITES:
                revoked = await asyncio.to_thread(terminal.run, "keys", "revoke", "eve", "--folder", folders[name])
                assert revoked.code == 0, revoked.out + revoked.err
            await watch.until(lambda: watch.nodes("lost") == set(SITES))
            assert monitor.node.counts["not let in"] > 0
    for name, other in (SITES, SITES[::-1]):
        running[name].says("eve lost: its keys were revoked")
        running[name].says("wants to connect with a key that is not trusted here")
        assert f"{other} lost" not in running[name].out + running[name].err
        assert running[name].interrupt() == 0, running[name].err
