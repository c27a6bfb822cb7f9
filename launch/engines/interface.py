"""What an engine is: it says what there is, places nodes, and hands out a handle for each process.

    capacity() -> Capacity      place(spec, hint) -> handle      handle.poll / wait / stop / log

An engine starts the same process everywhere, `fednet node --spec` with a node file (`launch.engines.node_file`), and
knows nothing of what a node does. When to start, to start again and to end is the supervisor's to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from nodes.spec import NodeSpec

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


class Handle(Protocol):
    """A node that has been placed."""

    @property
    def details(self) -> Mapping[str, Any]:
        """Where it runs, for whoever watches: `pid`, `host`, `device` and the like."""

    @property
    def log(self) -> Path:
        """The file on this machine with what it has written so far."""

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""

    async def wait(self) -> int:
        """Waits for its end, and until its log is here; returns what `poll` does then."""

    def stop(self, *, kill: bool = False) -> None:
        """Asks it to end, or kills it with all that it has started; does not wait."""


class Engine(Protocol):
    """Starts nodes; an async context, at whose end nothing is left of what it has started."""

    @property
    def queues(self) -> bool:
        """Whether nodes may wait for long until they start, and are started again by the engine itself."""

    @property
    def address(self) -> str:
        """The host or number by which nodes reach this machine, once `reserve` has returned."""

    async def __aenter__(self) -> Self:
        """Connects."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what is left and disconnects."""

    async def capacity(self) -> Capacity:
        """What there is."""

    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Makes sure that there is room for all of these nodes, before the first is placed.

        Raises:
            ConfigError: there is not; says what is missing.
        """

    async def place(self, spec: NodeSpec, hint: Hint) -> Handle:
        """Starts a node; returns once its process has been started, which is before the node is ready.

        Raises:
            ConfigError: it cannot be started there.
        """
