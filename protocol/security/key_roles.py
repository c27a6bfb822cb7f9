"""Roles of keys, and what each may hear. Knows no keys and no message: a relay needs no more of roles than this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from protocol.topics import HEARTBEATS, INBOX, JOIN, PRESENCE, PROGRESS

if TYPE_CHECKING:
    from protocol.security.keys import PublicKeys

KeyRole = Literal["client", "guest", "monitor", "relay"]
"""What a node is let in as. A client may do all that a guest may, and a guest all that a monitor may."""

Right = Literal["ask", "models", "rounds"]
"""What a guest may do beyond listening: ask questions, give models, have rounds and exchanges held."""

RIGHTS: tuple[Right, ...] = get_args(Right)

_RANKS: dict[KeyRole, int] = {"relay": 0, "monitor": 1, "guest": 2, "client": 3}

_HEARD_BY_ALL = (PRESENCE, PROGRESS, HEARTBEATS, INBOX, JOIN)
"""What monitors and guests may subscribe to, too; queries, rounds and exchanges are for clients."""


def may_take_part(role: KeyRole, as_role: KeyRole) -> bool:
    """Whether whoever is let in as the one may take part as the other."""
    return _RANKS[as_role] <= _RANKS[role]


def may_hear(keys: PublicKeys | None, subscription: bytes) -> bool:
    """Whether a role may subscribe to a topic, if it is trusted at all; whose inbox it is, is not asked here."""
    if keys is None:
        return False
    return keys.role == "client" or subscription.decode("ascii", "replace").startswith(_HEARD_BY_ALL)
