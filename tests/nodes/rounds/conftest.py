"""Members that train tiny models by rounds, in one process, on a network that may drop and reorder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.conversations import Closed, Programme, State, Task, Update, Watch
from fednet.errors import MethodError
from fednet.federated.config import Federation
from nodes.node import Node
from nodes.roster import Presenter, Roster
from nodes.rounds.assembly import Assembly
from nodes.rounds.convener import Convener
from nodes.spec import NodeSpec, Policy
from nodes.transfers import Depot


class Walker:
    """A participant whose every contribution is a step of its own size away from the base."""

    def __init__(self, name: str, step: float, weight: float = 1.0, shape: tuple[int, ...] = (3, 2)) -> None:
        self.name, self.step, self.weight, self.shape = name, step, weight, shape
        self.tasks: list[Task] = []
        self.adopted: list[tuple[str, int, dict[str, Tensor]]] = []
        self.spoil: Callable[[State], State] = lambda state: state

    def begin(self, model: str) -> State:
        if model not in {"walk", "run"}:
            raise MethodError(f"there is no model {model}")
        return {"w": torch.zeros(self.shape), "b": torch.full((1,), 5.0)}

    def contribute(self, task: Task, base: State, watch: Watch) -> Update:
        if task.options.get("balks") == self.name:
            raise MethodError("it does not want to")
        self.tasks.append(task)
        state = {name: tensor + self.step * task.number for name, tensor in base.items()}
        return Update(self.spoil(state), self.weight, {"step": self.step})

    def adopt(self, model: str, number: int, state: State) -> None:
        self.adopted.append((model, number, dict(state)))


@dataclass
class Member:
    """A node that takes part."""

    node: Node
    bus: Any
    assembly: Assembly
    walker: Walker
    depot: Depot
    presenter: Presenter

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
    convener: Convener | None = None
    guest: Node | None = None

    async def member(self, name: str, *, folder: Path | None = None, seconds: float = 1.0, ready: bool = True) -> Member:
        bus = self.cluster.network.bus()
        spec: NodeSpec = self.cluster.spec(name, join=self.door(), expected=self.names, **self.changes)
        node = Node(spec, bus)
        depot, presenter = Depot(node), Presenter(node)
        assembly = Assembly(node, self.compute(seconds), self.compute(0.0), depot, folder)
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

    async def visitor(self, name: str = "guest") -> Convener:
        bus = self.cluster.network.bus()
        node = Node(self.cluster.spec(name, "guest", join=self.door(), expected=self.names), bus)
        roster, depot = Roster(node, self.names), Depot(node)
        convener = Convener(node, roster, depot)
        await self.cluster.enter(node, roster, depot, convener)
        await roster.complete(60)
        self.convener, self.guest = convener, node
        return convener

    async def convene(self, key: str = "k", rounds: int = 1, **said: Any) -> tuple[Closed, ...]:
        """Has rounds held."""
        assert self.convener is not None
        options, given, model = said.pop("options", {}), said.pop("given", None), said.pop("model", "walk")
        federation = Federation.model_validate(said)
        programme = Programme(key, model, "step", rounds, federation, options, given)
        async with asyncio.timeout(200):
            return await self.convener.convene(programme)

    def states(self, model: str = "walk") -> dict[str, dict[str, Tensor]]:
        return {name: dict(member.assembly.models.kept[model].state) for name, member in self.members.items()}

    def digests(self, model: str = "walk") -> set[str]:
        kept = [member.assembly.models.kept[model] for member in self.members.values()]
        return {each.standing.left.digest for each in kept}

    def lead(self) -> str:
        (name,) = [name for name, member in self.members.items() if member.assembly.council.leading]
        return name

    def door(self) -> tuple[str, ...]:
        return tuple(member.node.address for member in list(self.members.values())[:2])


@pytest.fixture
def hall(inline: Callable[..., Any]) -> Callable[..., Hall]:
    def make(cluster: Any, *names: str, **changes: Any) -> Hall:
        return Hall(cluster, inline, names or ("a", "b", "c"), changes)

    return make


WAIT = Policy(hard_limit=1800.0, cold_start=600.0)
