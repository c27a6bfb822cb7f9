"""Says on the bus how far a computation is."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodes.node import Node
from protocol.messages import ProgressReport
from protocol.topics import PROGRESS

log = logging.getLogger(__name__)


ProgressListener = Callable[[str, int, int, dict[str, float]], None]
"""Hears of a phase, the units of it that are through, how many there are, and what was measured on the way."""


def progress_publisher(
    node: Node, note: Callable[[], str] = str, also: ProgressListener | None = None
) -> ProgressListener:
    """What a watch tells its reports to: publishes each, with the remark that `note` makes, and logs it.

    Args:
        node: publishes.
        note: makes a remark for people.
        also: hears of it, too.
    """

    def tell(phase: str, done: int, total: int, values: dict[str, float]) -> None:
        remark = note()[:200]
        node.publish(PROGRESS, ProgressReport(phase=phase, done=done, total=total, values=values, note=remark))
        measured = " ".join(f"{name}={value:.4g}" for name, value in values.items())
        log.info("%s %d/%d %s %s", phase, done, total, measured, remark)
        if also is not None:
            also(phase, done, total, values)

    return tell
