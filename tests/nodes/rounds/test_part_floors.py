"""A member's own configuration is a floor: no plan undercuts it, and no leader that lies about a round does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.errors import MethodError
from fednet.federated.config import Secure
from fednet.federated.floors import Floor
from nodes.errors import NoQuorum
from protocol.machines import coordinator
from protocol.messages import KeyAdvertisement, RoundClose, RoundCommit, RoundOpen

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

FIVE = ("a", "b", "c", "d", "e")
SECURE = {"clip": 64.0}


def sent(group: Any, kind: str) -> list[Any]:
    """The messages of a kind that members publish from now on."""
    messages: list[Any] = []
    for member in group.members.values():

        def spy(topic: str, message: Any, publish: Any = member.node.publish) -> None:
            if message.kind == kind:
                messages.append(message)
            publish(topic, message)

        member.node.publish = spy
    return messages


def lie(group: Any, name: str, kind: type[Any], change: Callable[[Any], Any]) -> None:
    """A member says something else than it should, to all and to itself."""
    service = group.members[name].service
    publish = service._publish

    def lying(message: Any) -> None:
        publish(change(message) if isinstance(message, kind) else message)

    service._publish = lying
    service._leading._publish = lying
    object.__setattr__(service._context, "publish", lying)


@pytest.mark.parametrize(
    ("floor", "asked", "says"),
    [
        (Floor(Secure(clip=64.0)), {}, "behind a secure sum only"),
        (Floor(Secure(clip=1.0)), {"secure": SECURE}, "clip 64 was asked for, and this site's is 1"),
        (Floor(Secure(clip=64.0, threshold=5)), {"secure": SECURE}, "threshold 4 was asked for, and this site's is 5"),
        (Floor(quorum=4), {"quorum": 3}, "a quorum of 3 was asked for, and this site's is 4"),
    ],
)
def test_nobody_works_for_a_plan_that_undercuts_its_floor(
    tell: Tell, make_group: MakeGroup, floor: Floor, asked: dict[str, Any], says: str
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        group.floor = floor
        await group.start()
        with pytest.raises(MethodError, match=says):
            await group.run_rounds(**asked)
        assert not any(member.participant.tasks for member in group.members.values())
        strict = {"secure": floor.secure and floor.secure.model_dump(), "quorum": floor.quorum}
        assert await group.run_rounds("as strict", **strict)

    tell(story)


def test_nobody_reveals_for_fewer_survivors_than_its_quorum(tell: Tell, make_group: MakeGroup) -> None:
    """Its noise is a part of that of so many: a leader that closes with fewer learns nothing."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        group.floor = Floor(Secure(**SECURE), quorum=5)
        await group.start()

        def without_e(close: RoundClose) -> RoundClose:
            fewer = {name: each for name, each in close.contributions.items() if name != "e"}
            return close.model_copy(update={"contributions": fewer})

        lie(group, group.leader(), RoundClose, without_e)
        reveals, declines = sent(group, "share_reveal"), sent(group, "round_decline")
        rounds = asyncio.ensure_future(group.run_rounds(secure=SECURE, quorum=5))
        await group.settle(30)
        rounds.cancel()
        assert any(
            "closed the round with 4 contributions, and the quorum of its plan is 5" in each.reason for each in declines
        )
        assert not reveals

    tell(story)


def test_where_noise_is_a_part_of_a_sum_nobodys_contribution_outweighs_it(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        group.floor = Floor(Secure(**SECURE), shares_noise=True)
        await group.start()
        for member in group.members.values():
            member.participant.weight = 1.0
        assert await group.run_rounds("equal", secure=SECURE)
        liar = next(name for name in FIVE if name != group.leader())
        lie(group, liar, KeyAdvertisement, lambda keys: keys.model_copy(update={"weight": 1e-9}))
        shares = sent(group, "encrypted_share")
        declines = sent(group, "round_decline")
        rounds = asyncio.ensure_future(group.run_rounds("lie", secure=SECURE))
        await group.settle(10)
        rounds.cancel()
        assert not shares
        assert any(f"{liar} advertised another weight" in each.reason for each in declines)

    tell(story)


@pytest.mark.parametrize("renumbered", [False, True])
def test_a_base_is_unmasked_for_one_set_of_survivors_across_restarts(
    tell: Tell, make_group: MakeGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, renumbered: bool
) -> None:
    """All members are gone once shares are revealed, before a vote is on any disk, and all but one are back.

    Neither another attempt nor a leader that numbers the same base as the next round gets a second sum.
    """

    def as_the_next_round(opened: RoundOpen) -> RoundOpen:
        held = RoundCommit(
            model="walk", number=opened.number, term=1, attempt=1, key="false", index=1, rounds=1, leader="a",
            base="0" * 64, outcome=opened.base, transcript="0" * 64, weights={}, values={}, late=(), lost={},
            refused={}, seconds=0.0, votes=dict.fromkeys(FIVE, b""),
        )  # fmt: skip
        return opened.model_copy(update={"number": opened.number + 1, "records": {"walk": held}})

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start(tmp_path)
        reveals = sent(group, "share_reveal")
        for name in FIVE:
            group.crash_on(name, "share_reveal", sent=True)
        with pytest.raises(NoQuorum):
            await group.run_rounds(secure=SECURE)
        assert (bool(reveals), group.members) == (True, {})
        for name in "abcd":
            await group.member(name, folder=tmp_path / name)
        await group.settle(10)
        if renumbered:
            monkeypatch.setattr(coordinator, "RoundOpen", lambda **fields: as_the_next_round(RoundOpen(**fields)))
        again, declines = sent(group, "share_reveal"), sent(group, "round_decline")
        rounds = asyncio.ensure_future(group.run_rounds("again", secure=SECURE))
        if renumbered:
            await group.settle(60)
            rounds.cancel()
        else:  # it ends, also though its leader cannot take part
            with pytest.raises(MethodError, match="a declined: round 1 of walk starts from what was unmasked"):
                await rounds
        assert any("unmasked for a, b, c, d, e already" in each.reason for each in declines)
        assert not again

    tell(story)


def test_a_member_that_was_dropped_from_a_sum_and_is_back_does_not_end_the_rounds(
    tell: Tell, make_group: MakeGroup, tmp_path: Path
) -> None:
    """E was not among the survivors for whom the others have revealed: the round is held for these again."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start(tmp_path)
        group.crash_on("e", "contribution_available", sent=False)
        for name in "abcd":
            group.crash_on(name, "share_reveal", sent=True)
        with pytest.raises(NoQuorum):
            await group.run_rounds(secure=SECURE)
        for name in FIVE:
            await group.member(name, folder=tmp_path / name)
        await group.settle(10)
        first, second = await group.run_rounds("again", rounds=2, secure=SECURE)
        assert (sorted(first.weights), sorted(second.weights)) == (["a", "b", "c", "d"], list(FIVE))
        await group.settle()
        assert group.digests() == {second.digest}

    tell(story)


def test_a_round_has_the_number_after_its_base(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        liar = group.leader()
        lie(group, liar, RoundOpen, lambda opened: opened.model_copy(update={"number": opened.number + 4}))
        (record,) = await group.run_rounds()
        assert (record.number, record.leader != liar) == (1, True)
        assert all(member.node.faults[liar] for name, member in group.members.items() if name != liar)

    tell(story)
