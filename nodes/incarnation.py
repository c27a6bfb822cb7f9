"""The number of a node's life: the time of its start, and in any case more than the last one's, which is kept on disk.

Peers let a node in again only under a higher incarnation. The clock alone does not give one: it may have been set back
since the last start. Knows no peers and no keys.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from fednet.files import write_whole
from nodes.errors import NodeError
from protocol.topics import LARGEST

log = logging.getLogger(__name__)


def next_incarnation(now: int, kept: int | None) -> int:
    """The incarnation of a node that starts now.

    Args:
        now: nanoseconds since the epoch.
        kept: the incarnation of its last start; None for the first.
    """
    return now if kept is None else max(now, kept + 1)


def begin_incarnation(file: Path | None, name: str) -> int:
    """The incarnation of a node that starts now, on the disk before anybody hears of it.

    A clock that has gone back since the last start is logged, and so is a file that cannot be written: the node starts
    in any case.

    Args:
        file: where it is kept; None: nowhere, as for a name that is used once.
        name: the node.

    Raises:
        NodeError: the file holds something else.
    """
    now = time.time_ns()
    if file is None:
        return now
    behind = seconds_behind(file, now)
    if behind > 0:
        log.warning("%s", set_back_remark(name, behind))
    incarnation = next_incarnation(now, kept_incarnation(file))
    try:
        write_whole(file, f"{incarnation}\n".encode(), durable=True)
    except OSError as error:
        why = error.strerror or str(error)
        log.warning("%s cannot be kept in %s (%s): once the clock goes back, peers do not let it in", name, file, why)
    return incarnation


def seconds_behind(file: Path, now: int) -> float:
    """By how many seconds the clock is behind the last start of a node; 0 where it is not.

    Args:
        file: where its incarnation is kept.
        now: nanoseconds since the epoch.

    Raises:
        NodeError: the file holds something else.
    """
    kept = kept_incarnation(file)
    return max(0, kept - now) / 1e9 if kept is not None else 0.0


def set_back_remark(name: str, behind: float) -> str:
    """What to tell the owner of a node whose clock has gone back by so many seconds."""
    return f"the clock here is {behind:.1f} s behind the last start of {name}: synchronise it with a time server"


def kept_incarnation(file: Path) -> int | None:
    """The incarnation of a node's last start; None if there was none.

    Raises:
        NodeError: the file holds something else.
    """
    try:
        with file.open("rb") as kept:
            text = kept.read(32)
        incarnation = int(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise NodeError(f"{file} holds no incarnation of a node, a number of nanoseconds; remove it") from error
    if not 0 <= incarnation < LARGEST:
        raise NodeError(f"{file} holds {incarnation}, which is no incarnation of a node; remove it")
    return incarnation
