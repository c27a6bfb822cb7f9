"""A relay that lies, between members with keys: it drops, repeats, reorders and keeps back what they have signed.

Nobody ends, nobody is blamed for it, and rounds have the results of an undisturbed run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from nodes.transport.memory import Faults

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FOUR = ("a", "b", "c", "d")
TROUBLE = Faults(drop=0.05, duplicate=0.05, delay=(0.0, 0.2))


def lies(network: Any, seed: int) -> None:
    """Every tenth time something that anybody has said before is said again, now and to all that listen."""
    dice, said, carry = random.Random(seed), list[Any](), network.carry  # noqa: S311 - replayable

    def lying(sender: str, frames: Sequence[Any], *, heartbeat: bool) -> None:
        said.append((sender, [bytes(frame) for frame in frames], heartbeat))
        carry(sender, frames, heartbeat=heartbeat)
        if dice.random() < 0.1:
            before, copies, beat = dice.choice(said)
            carry(before, copies, heartbeat=beat)

    network.carry = lying


@pytest.mark.parametrize("secure", [None, {"clip": 64.0}], ids=["plain", "secure"])
def test_a_relay_that_lies_changes_no_result(tell: Tell, make_group: MakeGroup, secure: Any) -> None:
    async def story(cluster: Any, *, lying: bool) -> list[dict[str, float]]:
        group = make_group(cluster, *FOUR, keyed=True)
        if lying:
            lies(cluster.network, 7)
        await group.start()
        records = await group.run_rounds(rounds=2, secure=secure)
        await group.settle(10)
        assert group.digests() == {records[-1].digest}
        if secure is None:
            assert [record.digest for record in records] == group.recomputed(records)
        for member in group.members.values():
            assert not any(member.node.faults.values())
        return [dict(record.weights) for record in records]

    quiet = tell(lambda cluster: story(cluster, lying=False))
    assert tell(lambda cluster: story(cluster, lying=True), TROUBLE, seed=7) == quiet
