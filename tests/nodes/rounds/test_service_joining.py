"""Members join late, come back from their folders, and are cut off: a member that is behind catches up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.errors import ModelError
from protocol.security.keys import Keyring
from tests.cases import covering, first

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FIVE = ("a", "b", "c", "d", "e")
TRANSPORTS = ("mesh", "sharded")


@pytest.mark.parametrize(("transport", "minority"), covering(TRANSPORTS, [("a", "b"), ("d", "e"), ("a",)], together=1))
def test_a_partition_heals(
    tell: Tell, make_group: MakeGroup, caplog: pytest.LogCaptureFixture, transport: str, minority: tuple[str, ...]
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        task = asyncio.ensure_future(group.run_rounds(rounds=8, transport=transport))
        await asyncio.sleep(1.5)
        cuts = [(one, other) for one in minority for other in {*FIVE, "driver"} - set(minority)]
        for one, other in cuts:
            cluster.network.cut(f"memory://{one}", f"memory://{other}")
        with caplog.at_level("WARNING"):
            records = await task
        assert {name for name in FIVE if f"{name} is waiting: 3 members are needed" in caplog.text} == set(minority)
        assert set(records[-1].weights) == set(FIVE) - set(minority)
        assert len(group.digests()) >= 2
        for one, other in cuts:
            cluster.network.heal(f"memory://{one}", f"memory://{other}")
        await group.require_converged(records, 30)
        (more,) = await group.run_rounds("more", transport=transport)
        assert set(more.weights) == set(FIVE)

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_late_member_catches_up_at_once(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.member("a")
        await group.member("b")
        group.names = ("a", "b")
        await group.add_driver()
        group.names = ("a", "b", "c")
        records = await group.run_rounds(rounds=3, transport=transport)
        late = await group.member("c")
        await group.require_converged(records)
        assert late.participant.adopted[-1][:2] == ("walk", 3)
        assert late.service.store.records_of("k") == group.members["a"].service.store.records_of("k")
        (more,) = await group.run_rounds("more", transport=transport)
        assert more.weights.keys() == {"a", "b", "c"}

    tell(story)


def test_a_member_that_says_again_that_it_is_ready_goes_on_with_its_part(tell: Tell, make_group: MakeGroup) -> None:
    """It says so to all when it gets ready and tells each newcomer; a round may be opened in between."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        task = asyncio.ensure_future(group.run_rounds())
        while any(member.service._participation.current is None for member in group.members.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for member in group.members.values():
            member.publisher.show("{}")
        (record,) = await task
        assert record.weights.keys() == {"a", "b", "c"}

    tell(story)


def test_an_outcome_heard_before_a_member_is_ready_is_not_done_with(tell: Tell, make_group: MakeGroup) -> None:
    """The leader tells it again once the member is ready; it was taken for one that the member had caught up with."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        for name in ("a", "b"):
            await group.member(name)
        await group.add_driver(expected=("a", "b"))
        late = await group.member("c", ready=False)
        (record,) = await group.run_rounds()
        commit = group.members["a"].service.store.records[-1]
        assert late.service._participation.is_outside(commit)
        await late.ready()
        await group.settle()
        assert group.digests() == {record.digest}

    tell(story)


ROUNDS_OF = ({"transport": "mesh"}, {"transport": "sharded"}, {"transport": "sharded", "secure": {"clip": 32.0}})


@pytest.mark.parametrize("federation", ROUNDS_OF)
def test_two_members_that_are_not_linked_yet_are_waited_for(
    tell: Tell, make_group: MakeGroup, federation: dict[str, Any]
) -> None:
    """Each is linked with the leader, which opens a round; what they say before they hear each other would be lost."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        cluster.network.cut("memory://d", "memory://e")
        await group.start()
        task = asyncio.ensure_future(group.run_rounds(**federation))
        await asyncio.sleep(4.0)
        assert not task.done()
        cluster.network.heal("memory://d", "memory://e")
        (record,) = await task
        assert set(record.weights) == set(FIVE)
        await group.settle(2.0)
        assert group.digests() == {record.digest}

    tell(story)


@pytest.mark.parametrize("federation", ROUNDS_OF)
def test_rounds_go_on_without_two_members_that_cannot_be_linked(
    tell: Tell, make_group: MakeGroup, federation: dict[str, Any]
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        cluster.network.cut("memory://d", "memory://e")
        await group.start()
        (record,) = await group.run_rounds(**federation)
        out = {"d": "e"} if federation["transport"] == "sharded" else {"d": "e", "e": "d"}
        assert set(record.weights) == set(FIVE) - out.keys()
        assert record.lost == {
            one: f"declined: not ready after 10 s: {other} (not linked)" for one, other in out.items()
        }
        await group.settle(5.0)
        assert group.digests() == {record.digest}

    tell(story)


@pytest.mark.parametrize("revoked", first(2, ["a", "d", "b", "c"]))
def test_a_record_is_believed_whoever_of_its_voters_was_revoked_since(
    tell: Tell, make_group: MakeGroup, revoked: str
) -> None:
    """All votes are kept, not a majority's: a newcomer to which one voter is a stranger still finds a majority."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        for name in FIVE[:4]:
            await group.member(name)
        group.names = FIVE[:4]
        await group.add_driver()
        group.names = FIVE
        await group.run_rounds(rounds=2)
        assert all(record.votes.keys() == {*"abcd"} for record in group.members["d"].service.store.records_of("k"))
        group.crash(revoked)
        keys = group.keys("e")["keys"]
        trusted = [public for name, public in keys.trusted.items() if name not in {"e", revoked}]
        group.keys = lambda _name: {"keys": Keyring.of(keys.own, trusted)}
        late = await group.member("e")
        await group.settle(20)
        assert late.participant.adopted[-1][:2] == ("walk", 2)
        assert late.node.counts["uncertified"] == 0

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_member_that_is_not_ready_is_not_waited_for(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds()
        group.crash("a")
        await group.settle(5)
        back = await group.member("a", ready=False)
        await group.settle(1)
        (record,) = await group.run_rounds("k2", transport=transport)
        assert record.weights.keys() == {"b", "c"}
        await back.ready()
        await group.settle()
        assert group.digests() == {record.digest}
        (record,) = await group.run_rounds("k3", transport=transport)
        assert record.weights.keys() == {"a", "b", "c"}

    tell(story)


@pytest.mark.parametrize(("name", "moment"), covering(["a", "b"], [1.5, 2.03, 3.5], together=1))
def test_a_member_restarts_between_and_within_rounds(
    tell: Tell, make_group: MakeGroup, tmp_path: Path, name: str, moment: float
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start(tmp_path)
        task = asyncio.ensure_future(group.run_rounds(rounds=12))
        await asyncio.sleep(moment)
        group.crash(name)
        await asyncio.sleep(0.3)
        await group.member(name, folder=tmp_path / name)
        records = await task
        assert records[-1].weights.keys() == {"a", "b", "c"}
        await group.require_converged(records)

    tell(story)


@pytest.mark.parametrize("moment", [0.5, 1.02, 1.1, 2.5, 3.05])
def test_a_whole_run_continues_from_its_folders(
    tell: Tell, make_group: MakeGroup, tmp_path: Path, moment: float
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        federation: dict[str, Any] = {"server": {"kind": "adam"}}
        await group.start(tmp_path)
        (first,) = await group.run_rounds("first", **federation)
        task = asyncio.ensure_future(group.run_rounds("second", rounds=3, **federation))
        await asyncio.sleep(moment)
        task.cancel()
        for name in group.names:
            group.crash(name)
        for name in group.names:
            await group.member(name, folder=tmp_path / name)
        await group.settle()
        participants = [member.participant for member in group.members.values()]
        assert await group.run_rounds("first", **federation) == (first,)
        assert not any(participant.tasks for participant in participants), "it is remembered, not held again"
        records = [first, *await group.run_rounds("second", rounds=3, **federation)]
        assert {len(record.weights) for record in records} == {3}
        await group.require_converged(records, **federation)

    tell(story)


def test_a_leader_that_missed_rounds_tells_their_records(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        first = await group.run_rounds("first")
        group.crash("b")
        await group.settle(5)
        second = await group.run_rounds("second", rounds=2)
        await group.run_rounds("third")
        await group.member("b")
        await group.settle()
        group.crash("a")
        await group.settle(5)
        assert group.leader() == "b"
        assert await group.run_rounds("second", rounds=2) == second
        assert await group.run_rounds("first") == first
        assert not group.members["b"].participant.tasks

    tell(story)


def test_a_folder_with_another_state_is_not_resumed_from(tell: Tell, make_group: MakeGroup, tmp_path: Path) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a")
        await group.start(tmp_path)
        await group.run_rounds()
        await group.settle()
        group.crash("a")
        (state,) = (tmp_path / "a").glob("*.safetensors")
        state.write_bytes(state.read_bytes()[:-1] + b"\x01")
        with pytest.raises(ModelError, match="remove it to begin anew"):
            await group.member("a", folder=tmp_path / "a")

    tell(story)


def test_a_member_that_was_lost_and_noticed_nothing_takes_part_again(tell: Tell, make_group: MakeGroup) -> None:
    """Its heartbeats were late, say: it has lost nobody, so it does not publish its capabilities again."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        silent = group.members["c"]
        silent.bus._beating.cancel()
        (record,) = await group.run_rounds()
        await group.settle(10)
        assert "c" not in group.members["a"].node.presence.linked()
        assert set(silent.node.presence.linked()) == {"a", "b", "driver"}
        silent.bus.beat(silent.node._beat, 0.4)
        await group.settle(5)
        (record,) = await group.run_rounds("more")
        assert record.weights.keys() == {"a", "b", "c"}

    tell(story)
