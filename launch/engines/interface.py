"""What an engine is: it says what there is, places nodes, and hands out a handle for each process.

    capacity() -> Capacity      place(spec, hint) -> handle      handle.poll / wait / stop / log

An engine starts the same process everywhere, `fednet node --spec` with a node file (`launch.engines.node_file`), and
knows nothing of what a node does. When to start, to start again and to end is the supervisor's to decide.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from launch.run.folder import incarnation_file
from nodes.spec import NodeSpec
from protocol.topics import is_local

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Hint:
    """What the configuration says about a node's place.

    Attributes:
        host: a host of the engine; None: any.
        labels: what the machine must be labelled with.
        gpus: how many GPUs the node is to have for itself, of an engine that hands them out.
    """

    host: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0


@dataclass(frozen=True)
class Capacity:
    """What an engine has for nodes.

    Attributes:
        gpus: by machine, how many there are.
    """

    gpus: Mapping[str, int]


class Handle(ABC):
    """A node that has been placed.

    Attributes:
        log: the file on this machine with what it has written so far.
        details: where it runs, for whoever watches: `pid`, `host`, `device` and the like.
    """

    def __init__(self, log: Path, details: Mapping[str, Any], ended: asyncio.Future[int]) -> None:
        """`ended` gets the exit code, or minus the signal that killed it, once the log is here."""
        self.log, self.details, self._ended = log, details, ended

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Waits for its end, and until its log is here; returns what `poll` does then."""
        return await asyncio.shield(self._ended)

    @abstractmethod
    def stop(self, *, kill: bool = False) -> None:
        """Asks it to end, or kills it with all that it has started; does not wait."""


class Engine(ABC):
    """Starts nodes; an async context, at whose end nothing is left of what it has started.

    Attributes:
        queues: whether nodes may wait for long until they start, and are started again by the engine itself.
        address: the host or number by which nodes reach this machine, once `reserve` has returned.
    """

    queues = False
    address = LOOPBACK

    def __init__(self) -> None:
        self._handles: list[Handle] = []

    async def __aenter__(self) -> Self:
        """Connects, where there is something to connect to."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kills what is left, which is nothing where the supervisor has stopped what it has placed."""
        left = [handle for handle in self._handles if handle.poll() is None]
        for handle in left:
            handle.stop(kill=True)
        for handle in left:
            await handle.wait()

    @abstractmethod
    async def capacity(self) -> Capacity:
        """What there is."""

    @abstractmethod
    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Makes sure that there is room for all of these nodes, before the first is placed.

        Raises:
            ConfigError: there is not; says what is missing.
        """

    @abstractmethod
    async def place(self, spec: NodeSpec, hint: Hint) -> Handle:
        """Starts a node; returns once its process has been started, which is before the node is ready.

        Raises:
            ConfigError: it cannot be started there.
        """


def reached_at(spec: NodeSpec, host: str) -> NodeSpec:
    """A node that listens where others reach its machine, on its own port; one whose address is not loopback keeps it.

    Args:
        spec: the node.
        host: the name or number of its machine.
    """
    if host == LOOPBACK or not spec.listen.startswith("tcp://") or not is_local(spec.listen):
        return spec
    named = f"[{host}]" if ":" in host else host
    return replace(spec, listen=f"tcp://{named}:{spec.listen.rpartition(':')[2]}")


def elsewhere(spec: NodeSpec, folder: Path) -> NodeSpec:
    """A node that keeps what it learns in another folder, and sees the GPUs that it was given alone."""
    device = "cuda:0" if spec.device.startswith("cuda") else spec.device
    return replace(spec, folder=folder, incarnation_file=incarnation_file(folder, spec.name), device=device)
