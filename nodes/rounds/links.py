"""The members that this one is linked with, those of them that are ready, and why others are not there.

What a member says in a round is for every other one in it, and is heard by those that are linked with it. A leader sees
its own links alone: of two members that have just been started, each may be linked with it and not yet with the other.
So a member says nothing in a round before it is linked with all that are in it. Knows nothing of what is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from nodes.errors import PeersMissing

LINK_TIMEOUT = 10.0
"""Seconds for which a member waits for its links with the others in a round; then it takes no part."""


class MemberLinks:
    """Which members are linked and ready, as they come and go."""

    def __init__(self) -> None:
        self._linked: dict[str, int] = {}  # incarnations
        self._departed: dict[str, str] = {}  # reasons
        self._ready: dict[str, int] = {}  # incarnations, kept while a peer is lost: it may be linked again as it was
        self._changed = asyncio.Event()

    def linked(self, name: str, incarnation: int) -> None:
        """Both directions to a peer are proven."""
        self._linked[name] = incarnation
        self._departed.pop(name, None)
        self._changed.set()

    def departed(self, name: str, departure: str) -> bool:
        """A peer is gone; whether it was linked."""
        was_linked = self._linked.pop(name, None) is not None
        if was_linked:
            self._departed[name] = departure
        return was_linked

    def ready(self, name: str, incarnation: int) -> None:
        """A peer says that it is ready."""
        self._ready[name] = incarnation

    def is_ready(self, name: str) -> bool:
        """Whether a peer counts as alive: linked, and this incarnation of it is ready."""
        return name in self._linked and self._ready.get(name) == self._linked[name]

    def absence(self, name: str) -> str:
        """Why a member is not alive."""
        return self._departed.get(name) or ("not ready" if name in self._linked else "not linked with the leader")

    async def all(self, names: Collection[str]) -> None:
        """Waits until this member is linked with all of these.

        Raises:
            PeersMissing: it is not after `LINK_TIMEOUT` seconds.
        """
        try:
            async with asyncio.timeout(LINK_TIMEOUT):
                while not self._linked.keys() >= set(names):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            missing = {name: self._departed.get(name, "not linked") for name in set(names) - self._linked.keys()}
            raise PeersMissing(missing, LINK_TIMEOUT) from error
