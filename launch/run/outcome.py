"""How a run has ended, and the nodes that failed on the way."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass

from launch.errors import EXIT_CODES, EXIT_INTERNAL_ERROR


@dataclass(frozen=True)
class NodeExit:
    """The unexpected end of a node's process.

    Attributes:
        node: its name.
        code: its exit code, or minus the signal that killed it.
        message: its last message.
    """

    node: str
    code: int
    message: str

    @property
    def cause(self) -> str:
        """The code as text."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"was killed by signal {-self.code}"

    @property
    def family(self) -> int:
        """The exit code to pass on; 1 for an end that no family of errors explains."""
        explained = {code for _, code in EXIT_CODES}
        return self.code if self.code in explained or self.code > 128 else EXIT_INTERNAL_ERROR

    def __str__(self) -> str:
        return f"{self.node} {self.cause}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        code: the exit code.
        reason: why, where the code is not 0.
        exits: the nodes that failed on the way, in order.
    """

    code: int
    reason: str = ""
    exits: tuple[NodeExit, ...] = ()
