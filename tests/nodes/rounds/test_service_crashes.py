"""Members and leaders crash at every stage: what was committed stands, and the survivors end with the same outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.errors import NoQuorum
from tests.cases import covering

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FIVE = ("a", "b", "c", "d", "e")
TRANSPORTS = ("mesh", "sharded")
STAGES = [
    *(("mesh", kind) for kind in ("contribution_available", "round_vote")),
    *(("sharded", kind) for kind in ("contribution_available", "shard_reduced", "round_vote")),
]


@pytest.mark.parametrize(("stage", "sent", "number"), covering(STAGES, [False, True], [1, 2]))
def test_a_member_crashes(
    tell: Tell, make_group: MakeGroup, *, stage: tuple[str, str], sent: bool, number: int
) -> None:
    transport, kind = stage

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.crash_on("c", kind, sent=sent, number=number)
        records = await group.run_rounds(rounds=3, transport=transport)
        assert {*records[-1].weights} == {"a", "b"}
        await group.require_converged(records)

    tell(story)


@pytest.mark.parametrize(
    ("transport", "kind", "sent", "group_of"),
    covering(
        TRANSPORTS,
        ["round_open", "contribution_available", "round_close", "round_commit"],
        [False, True],
        [(("a", "b", "c"), 1), (FIVE, 2)],
    ),
)
def test_the_leader_crashes(
    tell: Tell, make_group: MakeGroup, *, transport: str, kind: str, sent: bool, group_of: tuple[tuple[str, ...], int]
) -> None:
    names, number = group_of

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *names)
        await group.start()
        group.crash_on("a", kind, sent=sent, number=number)
        began = asyncio.get_running_loop().time()
        records = await group.run_rounds(rounds=3, transport=transport)
        assert asyncio.get_running_loop().time() - began < 30
        assert group.leader() == "b"
        await group.require_converged(records)
        assert [(each.index, each.outcome.digest) for each in group.members["b"].service.store.records_of("k")] == [
            (index, record.digest) for index, record in enumerate(records, 1)
        ]

    tell(story)


@pytest.mark.parametrize(
    ("transport", "receivers", "number"), covering(TRANSPORTS, [(), ("e",), ("b",), ("c", "d")], [1, 3])
)
def test_a_commit_that_few_have_received_is_never_undone(
    tell: Tell, make_group: MakeGroup, transport: str, receivers: tuple[str, ...], number: int
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        group.crash_on("a", "round_commit", sent=True, number=number, receivers=receivers)
        records = await group.run_rounds(rounds=3, transport=transport)
        assert len(records[number - 1].weights) == 5
        await group.require_converged(records, 5)

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_commit_whose_only_receiver_crashes_with_the_leader_is_never_undone(
    tell: Tell, make_group: MakeGroup, transport: str
) -> None:
    """Only e receives the commit, and crashes with the leader: b, c and d have voted for it."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        group.crash_on("a", "round_commit", sent=True, number=2, receivers=("e",))
        task = asyncio.ensure_future(group.run_rounds(rounds=3, transport=transport))
        while "a" in group.members:  # noqa: ASYNC110 - no event tells of a crash
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        group.crash("e")
        records = await task
        assert len(records[1].weights) == 5
        await group.require_converged(records, 5)

    tell(story)


@pytest.mark.parametrize(("transport", "moment"), covering(TRANSPORTS, [0.5, 1.0, 1.2, 2.5, 4.0], together=1))
def test_two_of_five_crash(tell: Tell, make_group: MakeGroup, transport: str, moment: float) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        task = asyncio.ensure_future(group.run_rounds(rounds=4, transport=transport))
        await asyncio.sleep(moment)
        group.crash("a")
        group.crash("d")
        await group.require_converged(await task)

    tell(story)


@pytest.mark.parametrize(
    ("back", "gone", "moment"), covering([False, True], [("c", "d", "e"), ("a", "b", "c")], [1.5, 2.05])
)
def test_three_of_five_crash(
    tell: Tell, make_group: MakeGroup, *, back: bool, gone: tuple[str, ...], moment: float, tmp_path: Path
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start(tmp_path)
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = asyncio.ensure_future(group.run_rounds(rounds=4))
        await asyncio.sleep(moment)
        for name in gone:
            group.crash(name)
        if not back:
            with pytest.raises(NoQuorum):
                await task
            assert loop.time() < began + 60
            return
        await asyncio.sleep(5)
        for name in gone:
            await group.member(name, folder=tmp_path / name)
        await group.require_converged(await task)

    tell(story)
