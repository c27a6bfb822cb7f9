"""The local engine pins each node to its GPU; how it starts and ends nodes is tested with the supervisor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from launch.engines.interface import Hint
from launch.engines.local import LocalEngine, pinned
from launch.engines.node_file import CUDA_VISIBLE
from launch.run.fork_server import start_fork_server, stop_fork_server
from nodes.spec import NodeSpec


def node(device: str, folder: Path = Path()) -> NodeSpec:
    return NodeSpec("a1", "client", "r", "ipc://unused", device=device, folder=folder)


@pytest.mark.parametrize(
    ("device", "visible", "own", "seen"),
    [
        ("cpu", None, "cpu", None),
        ("cpu", "3", "cpu", "3"),
        ("cuda:1", None, "cuda:0", "1"),
        ("cuda", None, "cuda:0", "0"),
        ("cuda:1", "4,6", "cuda:0", "6"),
        ("cuda:1", "GPU-5af1,GPU-77c0", "cuda:0", "GPU-77c0"),
    ],
)
def test_a_node_sees_its_gpu_alone_as_the_first(device: str, visible: Any, own: str, seen: Any) -> None:
    spec, shown = pinned(node(device), visible)
    assert (spec.device, shown) == (own, seen)


async def test_the_process_of_a_node_sees_the_gpu_of_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUDA_VISIBLE, "5,7")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    start_fork_server(())
    try:
        engine = LocalEngine(tmp_path, tmp_path / "files", target="sees:tell")
        async with engine, asyncio.timeout(60):
            handle = await engine.place(node("cuda:1"), Hint())
            assert handle.poll() is None
            assert await handle.wait() == handle.poll() == 0
        assert handle.log.read_text().splitlines()[-1] == "cuda:0 of 7"
        assert handle.details["device"] == "cuda:1"
    finally:
        stop_fork_server()
