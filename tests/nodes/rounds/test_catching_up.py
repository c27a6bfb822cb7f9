"""Who takes part: the first round waits for all, who is behind catches up from anybody, records name the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nodes.spec import RoundsPolicy
from protocol.machines.coordinator_values import FIRST_ROUND_WAIT
from protocol.messages import ProgressReport
from tests.cases import covering, first

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
Link = tuple[str, str]
PAIRS: tuple[Link, ...] = (("a", "b"), ("a", "c"), ("b", "c"))


def addresses(link: Link) -> tuple[str, ...]:
    return tuple(f"memory://{name}" for name in link)


async def start_unlinked(group: Any, cluster: Any, *links: Link) -> None:
    """All members join through a driver to which all are linked, but these links of theirs do not come about."""
    for link in links:
        cluster.network.cut(*addresses(link))
    driver = asyncio.ensure_future(group.add_driver())
    await asyncio.sleep(0)
    group.addresses = lambda: ("memory://driver",)
    for name in group.names:
        await group.member(name)
    await driver


@pytest.mark.parametrize(("order", "interval"), covering([*permutations(PAIRS)], [0.05, 0.4, 2.0], together=1))
def test_the_first_round_waits_for_all_in_every_order_of_links(
    tell: Tell, make_group: MakeGroup, order: tuple[Link, ...], interval: float
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await start_unlinked(group, cluster, *PAIRS)
        rounds = asyncio.ensure_future(group.run_rounds(rounds=2))
        for link in order:
            await asyncio.sleep(interval)
            cluster.network.heal(*addresses(link))
        records = await rounds
        assert group.digests() == {records[-1].digest}, "at once, not some time later"
        assert [set(record.weights) for record in records] == [{"a", "b", "c"}] * 2

    tell(story)


def test_a_member_without_a_link_to_the_leader_is_named_and_catches_up(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await start_unlinked(group, cluster, ("a", "c"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        records = await group.run_rounds(rounds=2)
        assert FIRST_ROUND_WAIT <= loop.time() - began < FIRST_ROUND_WAIT + 10, "it is waited for once"
        assert [record.lost for record in records] == [{"c": "not linked with the leader"}] * 2
        (more,) = await group.run_rounds("more")
        assert more.lost == {"c": "not linked with the leader"}
        cluster.network.heal(*addresses(("a", "c")))
        await group.settle()
        assert group.digests() == {more.digest}
        assert group.members["c"].service.store.records_of("k") == group.members["a"].service.store.records_of("k")

    tell(story)


def test_a_member_that_is_gone_stands_in_every_record(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds()
        group.crash("c")
        await group.settle(5)
        records = await group.run_rounds("more", rounds=2)
        assert [list(record.lost) for record in records] == [["c"]] * 2
        assert all(record.lost["c"].startswith("lost: ") for record in records)

    tell(story)


@pytest.mark.parametrize("late", [0.05, 0.5, 1.0, 1.9])
def test_whoever_arrives_in_the_last_round_has_its_outcome_before_the_requester_is_told(
    tell: Tell, make_group: MakeGroup, tmp_path: Path, late: float
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start(tmp_path)
        await group.run_rounds()
        group.crash("c")
        await group.settle(5)
        group.members["b"].service._compute.seconds = 5.0
        rounds = asyncio.ensure_future(group.run_rounds("last"))
        await asyncio.sleep(late)
        await group.member("c", folder=tmp_path / "c")
        (record,) = await rounds
        assert record.weights.keys() == {"a", "b"}
        assert record.lost.keys() == {"c"}
        assert group.digests() == {record.digest}

    tell(story)


@pytest.mark.parametrize("policy", first(1, ["survivors", "wait"]))
def test_a_member_that_restarts_again_and_again_takes_part_at_once(
    tell: Tell, make_group: MakeGroup, tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """Rounds take a tenth of a second, so that a version is gone soon after a newcomer has heard of it."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, rounds=RoundsPolicy(kind=policy, quorum=2, cold_start=5.0))
        for name in group.names:
            await group.member(name, folder=tmp_path / name, seconds=0.02)
        await group.add_driver()
        rounds = asyncio.ensure_future(group.run_rounds(rounds=130))
        restarted = []
        for _ in range(2):
            await asyncio.sleep(0.5)
            group.crash("c")
            await asyncio.sleep(1)
            await group.member("c", folder=tmp_path / "c", seconds=0.02)
            await asyncio.sleep(1)
            restarted.append(group.members["a"].service.store.records[-1].number)
            assert not rounds.done()
        records = await rounds
        for number in restarted:
            assert "c" in records[number].weights, f"a second after it is back, in round {number + 1}"
        assert group.digests() == {records[-1].digest}

    with caplog.at_level("WARNING"):
        tell(story)
    assert caplog.text.count("cannot fetch") <= 2


def test_another_member_gives_what_the_leader_no_longer_has(
    tell: Tell, make_group: MakeGroup, tmp_path: Path, caplog: pytest.LogCaptureFixture, wiretap: ModuleType
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start(tmp_path)
        records = await group.run_rounds(rounds=2)
        group.crash("c")
        await group.settle(5)
        group.members["a"].blob_store.drop((await group.run_rounds("more"))[0].digest)
        (last,) = (member.service.store.records[-1] for name, member in group.members.items() if name == "b")
        back = await group.member("c", folder=tmp_path / "c")
        tap = wiretap.Wiretap().on(cluster.network)
        await group.settle(5)
        reports = [each.message for each in tap.envelopes() if isinstance(each.message, ProgressReport)]
        assert group.digests() == {last.outcome.digest} != {records[-1].digest}
        assert [(each.done, each.total) for each in reports] == [(2, 3), (3, 3)]
        assert back.participant.adopted[-1][1] == 3

    with caplog.at_level("WARNING"):
        tell(story)
    assert "cannot fetch" not in caplog.text
