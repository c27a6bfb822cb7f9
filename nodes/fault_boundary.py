"""Where an unforeseen error of what a peer has said becomes a fault of that peer, and never the end of this node.

Handlers run within it, and so does the work that they begin. What is wrong with this node itself passes through where
such work ends the node: its disk is full, its method cannot use its model, too few peers are left. Does not know what a
message means, and what follows a fault (`nodes.inbound_filter`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fednet.errors import DiskFull, MethodError
from nodes.errors import NodeError

log = logging.getLogger(__name__)

OWN_ERRORS = (MethodError, NodeError, OSError, DiskFull)
"""What is wrong with this node, whoever has set it to work."""

MAX_TRACEBACKS = 64
"""Faults that are logged with a traceback, one of each kind of message and of error; of later ones the filter tells."""


class FaultBoundary:
    """Contains the errors of what peers have set off.

    Args:
        fault: told of each error: the sender, a word to count by, and what has happened.
    """

    def __init__(self, fault: Callable[[str, str, str], None]) -> None:
        self._fault = fault
        self._logged: set[tuple[str, str]] = set()

    @contextmanager
    def around(self, sender: str, subject: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Contains the errors of the enclosed statements.

        Args:
            sender: who has set them off.
            subject: what it has said, for example the kind of its message.
            passing: errors that are raised nevertheless.
        """
        try:
            yield
        except passing:
            raise
        except Exception as error:  # whatever a peer says
            self._contain(sender, subject, error)

    def _contain(self, sender: str, subject: str, error: Exception) -> None:
        kind = (subject, type(error).__name__)
        if kind not in self._logged and len(self._logged) < MAX_TRACEBACKS:
            self._logged.add(kind)
            log.error("%s from %s", subject, sender, exc_info=error)
        self._fault(sender, "failed", f"{subject} from {sender} led to {type(error).__name__}")
