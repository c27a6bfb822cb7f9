"""What engines share: handles that tell an end once, an engine that leaves nothing, and addresses on other machines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from launch.engines.interface import Capacity, Engine, Handle, Hint, elsewhere, reached_at
from nodes.spec import NodeSpec


class Kept(Handle):
    """A node that ends as soon as it is killed."""

    def stop(self, *, kill: bool = False) -> None:
        self._ended.set_result(-9 if kill else 0)


class Keeping(Engine):
    async def capacity(self) -> Capacity:
        return Capacity({})

    async def reserve(self, wanted: Any) -> None: ...

    async def place(self, spec: NodeSpec, hint: Hint) -> Kept:
        handle = Kept(Path("a.log"), {}, asyncio.get_running_loop().create_future())
        self._handles.append(handle)
        return handle


def node(listen: str, device: str = "cpu") -> NodeSpec:
    return NodeSpec("a1", "client", "r", listen, device=device)


async def test_the_end_of_an_engine_kills_what_is_left_and_nobody_else() -> None:
    async with Keeping() as engine:
        over, left = await engine.place(node("ipc://x"), Hint()), await engine.place(node("ipc://x"), Hint())
        over.stop()
        assert (over.poll(), left.poll()) == (0, None)
        assert await over.wait() == 0
    assert (over.poll(), left.poll()) == (0, -9)


@pytest.mark.parametrize(
    ("listen", "host", "expected"),
    [
        ("tcp://127.0.0.1:0", "10.0.0.7", "tcp://10.0.0.7:0"),
        ("tcp://127.0.0.1:7000", "10.0.0.7", "tcp://10.0.0.7:7000"),
        ("tcp://127.0.0.1:7000", "fd00::7", "tcp://[fd00::7]:7000"),
        ("tcp://127.0.0.1:7000", "127.0.0.1", "tcp://127.0.0.1:7000"),
        ("tcp://10.1.1.1:7000", "10.0.0.7", "tcp://10.1.1.1:7000"),
        ("ipc:///run/a1", "10.0.0.7", "ipc:///run/a1"),
    ],
)
def test_a_node_listens_where_its_machine_is_reached_on_its_own_port(listen: str, host: str, expected: str) -> None:
    assert reached_at(node(listen), host).listen == expected


@pytest.mark.parametrize(
    ("device", "there"), [("cuda:3", "cuda:0"), ("cuda", "cuda:0"), ("cpu", "cpu"), ("auto", "auto")]
)
def test_a_node_elsewhere_sees_its_own_gpu_first_and_keeps_its_incarnation_there(device: str, there: str) -> None:
    moved = elsewhere(node("ipc://x", device), Path("/there"))
    assert (moved.device, moved.folder) == (there, Path("/there"))
    assert moved.incarnation_file is not None
    assert moved.incarnation_file.is_relative_to("/there")
