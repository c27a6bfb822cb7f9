"""Ports for tests that must know an address before anybody listens there; everything else binds port 0."""

from __future__ import annotations

import random
from collections.abc import Iterator

from launch.run.devices import is_port_free

LOWEST, HIGHEST = 20_000, 32_000
"""Below the range that Linux and macOS take outgoing connections from, so that none of them grabs a port."""


def free_ports(host: str = "127.0.0.1") -> Iterator[int]:
    """Ports p of which p and p + 1 are free just now (a node binds both), from a random start, without end.

    Nothing holds them: another program may take one before the node does, which then says so.
    """
    start = random.SystemRandom().randrange(LOWEST, HIGHEST, 2)
    while True:
        for offset in range(0, HIGHEST - LOWEST, 2):
            port = LOWEST + (start - LOWEST + offset) % (HIGHEST - LOWEST)
            if is_port_free(host, port) and is_port_free(host, port + 1):
                yield port
