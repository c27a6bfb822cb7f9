"""Plans: models that are given, several drivers and models at a time, requests that are repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import RoundPlan
from fednet.errors import MethodError
from fednet.federated.config import Federation
from nodes.rounds.client import to_plan_message
from nodes.transport.memory import Faults
from protocol.messages.rounds import RoundsAborted
from protocol.topics import ROUNDS

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
TRANSPORTS = ("mesh", "sharded")
GIVEN = {"w": torch.full((3, 2), 7.0), "b": torch.tensor([1.0])}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_is_given(tell: Tell, make_group: MakeGroup, transport: str) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds("before", server={"kind": "adam"})
        (record,) = await group.run_rounds("give", given=GIVEN, transport=transport)
        assert record.weights == {}
        await group.settle()
        for name, state in group.states().items():
            assert state.keys() == {"w", "b"}
            assert torch.equal(state["w"], GIVEN["w"])
            assert group.members[name].participant.adopted[-1][1] == 2

    tell(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_invalid_model_is_refused_and_every_member_lives_on(
    tell: Tell, make_group: MakeGroup, transport: str
) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        with pytest.raises(MethodError, match="given model"):
            await group.run_rounds("give", given={"w": torch.zeros(4)}, transport=transport)
        with pytest.raises(MethodError, match="given model"):
            await group.run_rounds("infinite", given={**GIVEN, "b": torch.tensor([torch.inf])}, transport=transport)
        with pytest.raises(MethodError, match="there is no model"):
            await group.run_rounds("unknown", model="fly", transport=transport)
        (record,) = await group.run_rounds(transport=transport)
        assert record.number == 1

    tell(story)


@pytest.mark.parametrize("moment", [0.05, 0.2])
def test_a_driver_crashes_while_it_gives(tell: Tell, make_group: MakeGroup, moment: float) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        cluster.network.faults = Faults(delay=(0.08, 0.1))
        task = asyncio.ensure_future(group.run_rounds("give", given=GIVEN))
        await asyncio.sleep(moment)
        group.driver._bus.crash()
        task.cancel()
        await group.settle(60)
        assert not group.members["a"].service.store.checkpoints or len(group.digests()) == 1
        await group.add_driver("other")
        (record,) = await group.run_rounds("k")
        await group.settle()
        assert group.digests() == {record.digest}

    tell(story)


def test_two_drivers_and_two_models(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        one, other = group.client, await group.add_driver("other")
        walk = RoundPlan("one", "walk", "step", 3, Federation())
        run = RoundPlan("other", "run", "step", 2, Federation(transport="sharded"))
        records = await asyncio.gather(one.run_rounds(walk), other.run_rounds(run), other.run_rounds(walk))
        assert [len(each) for each in records] == [3, 2, 3]
        assert records[0] == records[2]
        await group.require_converged(records[0])
        assert group.digests("run") == {records[1][-1].digest}

    tell(story)


def test_a_plan_that_is_requested_again_is_remembered(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        records = await group.run_rounds(rounds=3)
        assert await group.run_rounds(rounds=3) == records
        assert all(len(member.participant.tasks) == 3 for member in group.members.values())

    tell(story)


def test_only_the_leader_ends_a_plan(tell: Tell, make_group: MakeGroup) -> None:
    """Whoever has the key of a request could have the others forget it."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a", "b", "c")
        await group.start()
        await group.run_rounds("first")
        service = group.members["b"].service
        plan, _ = to_plan_message(RoundPlan("k", "walk", "more", 1, Federation()), "driver")
        assert service._leading.requests.add(plan, "driver")
        liar = next(name for name in "ac" if name != group.leader())
        abort = RoundsAborted(term=service.election.term, key=plan.key, lost={}, reason="because I say so")
        for sender, held in ((liar, True), (group.leader(), False)):
            if sender != "b":
                group.members[sender].node.publish(ROUNDS, abort)
                await group.settle()
                assert (plan.key in service._leading.requests.plans) == held

    tell(story)
