"""Members that train tiny models by rounds, in one process, on a network that may drop and reorder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import ModelState, NullProgress, Progress, RoundPlan, RoundRecord, RoundTask, Update
from fednet.errors import MethodError
from fednet.federated.aggregation import aggregate
from fednet.federated.config import Federation
from fednet.federated.state import digest, model_tensors
from nodes.blob_store import BlobStore
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.rounds.client import RoundsClient
from nodes.rounds.service import RoundService
from nodes.spec import NodeSpec, QuorumPolicy
from protocol.messages import Message
from protocol.topics import ROUNDS


class Walker:
    """A participant whose every contribution is a step of its own size away from the base."""

    def __init__(self, name: str, step: float, weight: float = 1.0, shape: tuple[int, ...] = (3, 2)) -> None:
        self.name, self.step, self.weight, self.shape = name, step, weight, shape
        self.tasks: list[RoundTask] = []
        self.adopted: list[tuple[str, int, dict[str, Tensor]]] = []
        self.spoil: Callable[[ModelState], ModelState] = lambda state: state
        self.moved: Callable[[RoundTask], None] = lambda _task: None

    def initial_state(self, model: str) -> ModelState:
        if model not in {"walk", "run"}:
            raise MethodError(f"there is no model {model}")
        return {"w": torch.zeros(self.shape), "b": torch.full((1,), 5.0)}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        if self.name in {task.options.get("balks"), task.options.get("balks too")}:
            raise MethodError("it does not want to")
        self.tasks.append(task)
        self.moved(task)
        state = {name: tensor + self.step * task.number for name, tensor in base.items()}
        return Update(self.spoil(state), self.weight, {"step": self.step})

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        self.adopted.append((model, number, dict(state)))


@dataclass
class Member:
    """A node that takes part."""

    node: Node
    bus: Any
    assembly: RoundService
    walker: Walker
    blob_store: BlobStore
    presenter: CapabilityPublisher

    async def ready(self) -> None:
        await self.assembly.open(self.walker)
        self.presenter.show("{}")


@dataclass
class Hall:
    """Members and a guest who asks for rounds."""

    cluster: Any
    compute: Callable[..., Any]
    names: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    convener: RoundsClient | None = None
    guest: Node | None = None

    async def member(
        self, name: str, *, folder: Path | None = None, seconds: float = 1.0, ready: bool = True
    ) -> Member:
        bus = self.cluster.network.bus()
        spec: NodeSpec = self.cluster.spec(name, join=self.door(), expected=self.names, **self.changes)
        node = Node(spec, bus)
        depot, presenter = BlobStore(node), CapabilityPublisher(node)
        assembly = RoundService(node, self.compute(seconds), self.compute(0.0), depot, folder)
        place = self.names.index(name) + 1
        member = Member(node, bus, assembly, Walker(name, float(place), float(place)), depot, presenter)
        await self.cluster.enter(node, depot, presenter, assembly)
        self.members[name] = member
        if ready:
            await member.ready()
        return member

    async def assemble(self) -> None:
        """Everybody comes, and a guest."""
        for name in self.names:
            await self.member(name)
        await self.visitor()

    def dies(self, name: str, at: str, *, said: bool, number: int = 1, heard_by: tuple[str, ...] | None = None) -> None:
        """A member will die when it says the `number`-th message of a kind: before it or after; perhaps few hear it."""
        node, told = self.members[name].node, [0]
        publish = node.publish

        def doomed(topic: str, message: Message) -> None:
            meant = message.kind == at and (at != "round_commit" or topic == ROUNDS)  # what is told a guest comes later
            told[0] += meant
            if not meant or told[0] != number:
                publish(topic, message)
                return
            if heard_by is not None:
                for other in {*self.names, "guest"} - set(heard_by):
                    self.cluster.network.cut(f"memory://{name}", f"memory://{other}")
            if said:
                publish(topic, message)
            asyncio.get_running_loop().call_soon(self.bury, name)

        node.publish = doomed  # type: ignore[method-assign]

    def bury(self, name: str) -> None:
        """Is gone at once."""
        member = self.members.pop(name)
        member.bus.crash()
        for work in list(member.node._works):
            work.cancel()
        for other in {*self.names, "guest"}:
            self.cluster.network.heal(f"memory://{name}", f"memory://{other}")

    def replayed(self, records: Sequence[RoundRecord], **said: Any) -> list[str]:
        """The digests that the named contributors' work must have left, computed in one process."""
        federation, base, found = Federation.model_validate(said), Walker("", 0).initial_state("walk"), []
        for number, record in enumerate(records, 1):
            assert record.number == number
            walkers = {name: Walker(name, float(self.names.index(name) + 1)) for name in record.weights}
            task = RoundTask("walk", "step", number)
            states = {
                name: each.contribute(task, model_tensors(base), NullProgress()).state for name, each in walkers.items()
            }
            base = aggregate(federation, base, states, record.weights)
            found.append(digest(base))
        return found

    async def calm(self, seconds: float = 3.0) -> None:
        """Lets everything settle."""
        await asyncio.sleep(seconds)

    async def visitor(self, name: str = "guest") -> RoundsClient:
        bus = self.cluster.network.bus()
        node = Node(self.cluster.spec(name, "guest", join=self.door(), expected=self.names), bus)
        roster, depot = PeerDirectory(node, self.names), BlobStore(node)
        convener = RoundsClient(node, roster, depot)
        await self.cluster.enter(node, roster, depot, convener)
        await roster.complete(60)
        self.convener, self.guest = convener, node
        return convener

    async def run_rounds(self, key: str = "k", rounds: int = 1, **said: Any) -> tuple[RoundRecord, ...]:
        """Has rounds held."""
        assert self.convener is not None
        options, given, model = said.pop("options", {}), said.pop("given", None), said.pop("model", "walk")
        federation = Federation.model_validate(said)
        programme = RoundPlan(key, model, "step", rounds, federation, options, given)
        async with asyncio.timeout(200):
            return await self.convener.run_rounds(programme)

    def states(self, model: str = "walk") -> dict[str, dict[str, Tensor]]:
        return {name: dict(member.assembly.models.kept[model].state) for name, member in self.members.items()}

    def digests(self, model: str = "walk") -> set[str]:
        kept = [member.assembly.models.kept[model] for member in self.members.values()]
        return {each.standing.outcome.digest for each in kept}

    def lead(self) -> str:
        (name,) = [name for name, member in self.members.items() if member.assembly.election.is_leader]
        return name

    def door(self) -> tuple[str, ...]:
        return tuple(member.node.address for member in list(self.members.values())[:2])


@pytest.fixture
def hall(inline: Callable[..., Any]) -> Callable[..., Hall]:
    def make(cluster: Any, *names: str, **changes: Any) -> Hall:
        return Hall(cluster, inline, names or ("a", "b", "c"), changes)

    return make


WAIT = QuorumPolicy(hard_limit=1800.0, cold_start=600.0)
