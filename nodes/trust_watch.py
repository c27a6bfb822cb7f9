"""Whom a node trusts while it runs: its folder of keys is looked at each second, and what has changed there counts.

A folder that cannot be read changes nothing: the node goes on with what it has read last, and says so. Keys whose last
day is over are dropped at its end. Knows no peers and no connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from nodes.errors import KeyFileError
from nodes.key_folder import TRUSTED, read_keyring
from protocol.security.keys import Keyring

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks."""


class TrustedKeys:
    """The keys that are trusted at a time.

    Args:
        keys: as they were read at the start.
    """

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys
        self._seen: object = None

    def look(self, today: date) -> Keyring:
        """The keys that are trusted now; reads the folder where anything in it has changed.

        Args:
            today: in UTC.
        """
        file = self._keys.file
        if file is not None and (seen := _listing(file)) != self._seen:
            self._seen = seen
            self._read(file)
        return self._keys.current(today)

    def _read(self, file: Path) -> None:
        try:
            self._keys = read_keyring(file)
        except KeyFileError as error:
            log.error("whoever was trusted is trusted until this is mended: %s", error)


async def watch_trust(keys: Keyring, changed: Callable[[Keyring, Keyring], None]) -> None:
    """Looks until it is cancelled.

    Args:
        keys: as they were read at the start.
        changed: called on the event loop with the keys that were trusted until now, and those that are from now on.
    """
    trusted, present = TrustedKeys(keys), keys
    while True:
        today = datetime.now(UTC).date()
        found = trusted.look(today) if keys.file is None else await asyncio.to_thread(trusted.look, today)
        if found != present:
            changed(present, found)
            present = found
        await asyncio.sleep(INTERVAL)


def _listing(file: Path) -> object:
    """What changes when a file in the folder of a private file, or among the trusted keys, does."""
    found = []
    for folder in (file.parent, file.parent / TRUSTED):
        try:
            found.append(sorted(_state(path) for path in (folder, *folder.iterdir())))
        except OSError as error:
            found.append([(str(folder), error.errno or 0, 0, 0, 0)])
    return found


def _state(path: Path) -> tuple[str, int, int, int, int]:
    state = path.stat()
    return path.name, state.st_ino, state.st_size, state.st_mtime_ns, state.st_mode
