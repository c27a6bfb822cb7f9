"""A relay that trusts somebody no more ends its connections, and the others come back at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from nodes.key_folder import read_keyring
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.relay import Relay
from nodes.transport.zmq import ZmqTransport
from protocol.security.keys import Keyring, PrivateKeys

PATIENCE = 30.0
KEYS = {name: PrivateKeys.make(name) for name in ("one", "two", "eve")}
HUB = PrivateKeys.make("hub", "relay")
PUBLIC = [HUB.public, *(keys.public for keys in KEYS.values())]


class Ear:
    """Who came and went, and waiting for it."""

    topics: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.handlers: Mapping[Any, Any] = {}
        self._changed = asyncio.Event()

    def linked(self, peer: Any) -> None:
        self._add("linked", peer.name)

    def departed(self, peer: Any, reason: str, *, left: bool) -> None:
        self._add("left" if left else "lost", peer.name)

    def _add(self, *event: str) -> None:
        self.events.append((event[0], event[1]))
        self._changed.set()

    async def until(self, *events: tuple[str, str]) -> None:
        await self._until(lambda: set(events) <= set(self.events))

    async def until_back(self, name: str) -> None:
        """Waits until the last that happened to a peer is that it was linked."""
        await self._until(lambda: [kind for kind, other in self.events if other == name][-1:] == ["linked"])

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def hub_folder(folder: Path) -> Path:
    """The private file of the relay, which trusts everybody."""
    (folder / "trusted").mkdir(0o700, parents=True)
    (folder / "hub.key").write_text(HUB.text())
    (folder / "hub.key").chmod(0o600)
    (folder / "hub.pub").write_text(HUB.public.text())
    for name, keys in KEYS.items():
        (folder / "trusted" / f"{name}.pub").write_text(keys.public.text())
    return folder / "hub.key"


async def test_who_is_revoked_at_a_relay_is_heard_through_it_no_more(tmp_path: Path) -> None:
    key, through = hub_folder(tmp_path / "hub"), f"hub@ipc://{tmp_path}/relay"
    ears = {name: Ear() for name in KEYS}
    async with AsyncExitStack() as stack:
        stack.enter_context(Relay(f"ipc://{tmp_path}/relay", read_keyring(key)))
        for name, ear in ears.items():
            ring = Keyring.of(KEYS[name], PUBLIC)
            listen = f"ipc://{tmp_path}/{name}"
            spec = NodeSpec(name, "client", "test", listen, join=(through,), through=through, keys=ring)
            node = Node(spec, ZmqTransport(keys=ring))
            node.add(ear)
            await stack.enter_async_context(node)
        await ears["one"].until(("linked", "two"), ("linked", "eve"))
        await ears["eve"].until(("linked", "one"), ("linked", "two"))
        (key.parent / "trusted" / "eve.pub").unlink()
        await ears["one"].until(("lost", "eve"))
        await ears["two"].until(("lost", "eve"))
        await ears["eve"].until(("lost", "one"), ("lost", "two"))
        await ears["one"].until_back("two")
        await ears["two"].until_back("one")
