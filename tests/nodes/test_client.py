"""A site over real sockets and threads: it gets ready, shows its card, answers, and stops when it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Network, Progress, Question, Stopped
from fednet.errors import MethodError
from nodes.client import run_client
from nodes.driver import run_guest

PATIENCE = 20.0


def once(network: Network, _progress: Progress) -> tuple[dict[str, str], dict[str, list[float]]]:
    replies = network.ask(Question("scale", {"x": torch.tensor([2.0])}))
    return dict(network.capabilities), {name: outputs["y"].tolist() for name, outputs in replies.by_node.items()}


def sockets(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_socket()]


async def test_it_gets_ready_and_answers_and_leaves_nothing_behind(
    real_spec: Callable[..., Any], scaling: Any, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    running = [
        asyncio.create_task(run_client(real_spec("c0", index=0), stop)),
        asyncio.create_task(run_client(real_spec("c1", index=1, site={"factor": 7.0}), stop)),
    ]
    async with asyncio.timeout(PATIENCE):
        capabilities, replies = await run_guest(real_spec("guest", "guest", expected=("c0", "c1")), once, stop)
        assert capabilities == {"c0": '{"factor": 1.0}', "c1": '{"factor": 7.0}'}
        assert replies == {"c0": [2.0], "c1": [14.0]}
        stop.set()
        assert await asyncio.gather(*running) == [None, None]
    assert sockets(tmp_path) == []


async def test_who_cannot_get_ready_says_why(real_spec: Callable[..., Any], scaling: Any) -> None:
    def fail(*_arguments: Any) -> Any:
        raise MethodError("no data at /nowhere")

    scaling.agent = lambda *_told: type("Broken", (), {"prepare": fail})()
    with pytest.raises(MethodError, match="no data at /nowhere"):
        await run_client(real_spec("c0"), asyncio.Event())


async def test_an_agent_is_made_off_the_event_loop_since_it_may_read_its_data(
    real_spec: Callable[..., Any], scaling: Any
) -> None:
    made_by: list[str] = []

    def make(*_told: Any) -> Any:
        made_by.append(threading.current_thread().name)
        raise MethodError("enough")

    scaling.agent = make
    with pytest.raises(MethodError, match="enough"):
        await run_client(real_spec("c0"), asyncio.Event())
    assert made_by == ["c0-model"]


async def test_it_can_be_stopped_while_it_gets_ready(real_spec: Callable[..., Any], scaling: Any) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Training:
        def prepare(self, progress: Progress) -> str:
            try:
                while True:
                    progress.report("training", 0, 1)
                    begun.set()
            except Stopped:
                ended.set()
                raise

    scaling.agent = lambda *_told: Training()
    stop = asyncio.Event()
    running = asyncio.create_task(run_client(real_spec("c0"), stop))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    stop.set()
    async with asyncio.timeout(PATIENCE):
        await running
    assert ended.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "c0-model"]
