"""The engine `local`: nodes are forked on this machine, from a server that has imported what they need.

A node's device is pinned by what CUDA lets it see: the node of `cuda:1` sees that GPU alone, as its `cuda:0`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from launch.engines.interface import LOOPBACK, Capacity, Engine, Handle, Hint
from launch.engines.node_file import CUDA_VISIBLE, NodeFile
from launch.errors import EXIT_INTERNAL_ERROR
from launch.run import fork_server
from launch.run.devices import read_inventory
from nodes.spec import NodeSpec

NODE_TARGET = "nodes.run:run"


def pinned(spec: NodeSpec, visible: str | None) -> tuple[NodeSpec, str | None]:
    """The node as it sees its own device, and what `CUDA_VISIBLE_DEVICES` must be for that.

    Args:
        spec: the node; its device is numbered by what the launcher sees.
        visible: `CUDA_VISIBLE_DEVICES` of the launcher; None where it is not set.
    """
    kind, _, number = spec.device.partition(":")
    if kind != "cuda":
        return spec, visible
    index = int(number or 0)
    seen = visible.split(",") if visible is not None else []
    return replace(spec, device="cuda:0"), seen[index].strip() if index < len(seen) else str(index)


class LocalHandle(Handle):
    """A process on this machine."""

    def __init__(self, process: ForkServerProcess, log: Path, device: str) -> None:
        super().__init__(log, {"pid": process.pid, "device": device}, asyncio.get_running_loop().create_future())
        self._process: ForkServerProcess | None = process
        asyncio.get_running_loop().add_reader(process.sentinel, self._reap)

    def stop(self, *, kill: bool = False) -> None:
        """SIGTERM, or SIGKILL for its whole session."""
        if self._process is None:
            return
        if not kill:
            self._process.terminate()
            return
        assert self._process.pid is not None  # noqa: S101 - it was started
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it had not left our session yet
            self._process.kill()

    def _reap(self) -> None:
        process, self._process = self._process, None
        assert process is not None  # noqa: S101 - the reader is removed with it
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        self._ended.set_result(process.exitcode if process.exitcode is not None else EXIT_INTERNAL_ERROR)
        process.close()


class LocalEngine(Engine):
    """Forks nodes on this machine.

    Args:
        logs: the folder of their logs.
        files: a private folder for their node files, which goes with the launch.
        target: what a node's process calls.
    """

    def __init__(self, logs: Path, files: Path, *, target: str = NODE_TARGET) -> None:
        super().__init__()
        self._logs, self._files, self._target = logs, files, target

    async def capacity(self) -> Capacity:
        """The GPUs of this machine."""
        return Capacity({LOOPBACK: (await asyncio.to_thread(read_inventory)).cuda})

    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Nothing to do: the plan has given each node a device that is here."""

    async def place(self, spec: NodeSpec, hint: Hint) -> LocalHandle:
        """Forks a node; the first fork waits until the server is warm."""
        own, visible = pinned(spec, os.environ.get(CUDA_VISIBLE))
        file, log = self._files / f"{spec.name}.json", self._logs / f"{spec.name}.log"
        NodeFile.of(own, visible_gpus=visible).write(file)
        process = fork_server.node_process(self._target, file, log)
        starting = asyncio.ensure_future(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(Exception):  # else it would start once nobody knows of it
                await starting
                process.kill()
            raise
        handle = LocalHandle(process, log, spec.device)
        self._handles.append(handle)
        return handle
