"""Who is no longer let in, or not as what it was: the difference between two readings of the trusted keys. Pure."""

from __future__ import annotations

from datetime import date

from protocol.security.keys import Keyring, PublicKeys


def revoked(before: Keyring, after: Keyring, today: date) -> dict[str, str]:
    """Those whose connections must end, with why; a node or relay that is trusted under new terms may come again.

    Args:
        before: whom this node has trusted until now.
        after: whom it trusts from now on.
        today: in UTC; keys that are trusted no more on it have expired, others were revoked.
    """
    known = {**before.trusted, **before.relays}
    gone = {name: _reason(public, after.at_address(name), today) for name, public in sorted(known.items())}
    return {name: why for name, why in gone.items() if why}


def _reason(before: PublicKeys, after: PublicKeys | None, today: date) -> str:
    if after is None:
        return f"its keys were trusted until {before.not_after}" if before.expired(today) else "its keys were revoked"
    if not before.same_keys(after):
        return "its keys were replaced"
    return "" if before.role == after.role else f"it is let in as a {after.role} now"
