"""Who calls whose share of a result false, and who is left out for it: the liar, or the false accuser.

An accusation says which chunk to reduce again, and whoever has the contributions can; each member is heard once in an
attempt, since that costs its hearers a chunk of every contribution. Knows nothing of who judges.
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.machines.events import CheckShard, ShardChecked
from protocol.messages.rounds import FalseShard


class Accusations:
    """The accusations of one attempt.

    Args:
        me: who judges; its own accusations are not judged here.
        owners: those whose shares are judged.
    """

    def __init__(self, me: str, owners: Collection[str]) -> None:
        self._owners, self._heard = owners, {me}

    def hear(self, sender: str, accusation: FalseShard) -> list[CheckShard]:
        """What is to be done about an accusation; nothing where its sender was heard before."""
        if accusation.owner not in self._owners or sender in self._heard:
            return []
        self._heard.add(sender)
        return [CheckShard(sender, accusation)]


def liars(checked: ShardChecked) -> dict[str, str]:
    """Who has lied, and how; nobody where it cannot be told."""
    owner = checked.accusation.owner
    if checked.is_false is None:
        return {}
    if checked.is_false:
        return {owner: "its share of the result is false"}
    return {checked.accuser: f"it called the share of {owner} false, which is right"}
