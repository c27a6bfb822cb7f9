"""Leader election at a member: terms are on disk before they are promised, and only ready members stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodes.rounds.checkpoints import CheckpointStore
from protocol.machines.coordinator_values import Duty
from protocol.messages import LeaderAnnouncement, Message, Prepare, Promise

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


def test_a_term_is_on_disk_before_it_is_claimed_or_promised(tell: Tell, make_group: MakeGroup, tmp_path: Path) -> None:
    async def story(cluster: Any) -> None:
        group, terms = make_group(cluster), list[tuple[int, int]]()
        for name in group.names:
            member = await group.member(name, folder=tmp_path / name, ready=False)

            def listen(method: Any, folder: Path) -> Callable[[str, Message], None]:
                def send(receiver: str, message: Message) -> None:
                    if isinstance(message, Prepare | Promise):
                        terms.append((message.term, CheckpointStore(folder).term))
                    method(receiver, message)

                return send

            member.node.publish = listen(member.node.publish, tmp_path / name)
            await member.ready()
        await group.settle(5)
        assert group.leader() == "a"
        assert terms
        assert all(on_disk >= sent > 0 for sent, on_disk in terms)

    tell(story)


def test_a_member_that_is_not_ready_promises_and_does_not_stand(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        for name in group.names:
            await group.member(name, ready=name != "a")
        await group.settle(5)
        assert group.leader() == "b"

    tell(story)


def test_the_leader_is_announced_to_a_member_that_arrives(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.member("a")
        await group.member("b")
        await group.settle(5)
        late, announced = await group.member("c", ready=False), list[str]()
        dispatch = dict(late.service._dispatch)

        def listen(sender: str, message: Message) -> None:
            announced.append(sender)
            dispatch[LeaderAnnouncement](sender, message)

        late.service._dispatch = {**dispatch, LeaderAnnouncement: listen}
        await late.ready()
        await group.settle(1)
        assert set(announced) == {"a"}
        assert late.service.election.leader == "a"

    tell(story)


def test_a_deposed_leader_stops_leading(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds()
        a = group.members["a"]
        assert a.service._leading.duty is Duty.IDLE
        group.members["b"].node.publish("rounds/", Prepare(term=a.service.election.term + 1))
        await asyncio.sleep(1)
        assert a.service._leading.duty is None
        assert not a.service.election.is_leader

    tell(story)
