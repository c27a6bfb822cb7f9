"""Says on the bus how far a computation is."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodes.node import Node
from protocol.messages import Progress
from protocol.topics import PROGRESS

log = logging.getLogger(__name__)


def speaker(node: Node, note: Callable[[], str] = str) -> Callable[[str, int, int, dict[str, float]], None]:
    """What a watch tells its reports to: publishes each, with the remark that `note` makes, and logs it."""

    def tell(phase: str, done: int, total: int, values: dict[str, float]) -> None:
        remark = note()[:200]
        node.publish(PROGRESS, Progress(phase=phase, done=done, total=total, values=values, note=remark))
        said = " ".join(f"{name}={value:.4g}" for name, value in values.items())
        log.info("%s %d/%d %s %s", phase, done, total, said, remark)

    return tell
