"""Members that train tiny models by rounds, in one process, on a network that may drop and reorder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import ModelState, NullProgress, Progress, RoundPlan, RoundRecord, RoundTask, Update
from fednet.errors import MethodError
from fednet.federated import chunkwise, hash_tree, packed_state, robust, state_file
from fednet.federated.aggregation import aggregate
from fednet.federated.config import Federation
from fednet.federated.floors import Floor
from fednet.federated.state import digest, model_tensors
from nodes import blob_stream
from nodes.blob_store import BlobStore
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.rounds import context, reduction
from nodes.rounds.client import RoundsClient
from nodes.rounds.service import NO_FLOOR, RoundService
from nodes.spec import NodeSpec, Timing
from protocol.messages import Message
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import ROUNDS

KEYS = {name: PrivateKeys.make(name) for name in ("a", "b", "c", "d", "e", "driver")}


def ring(name: str) -> Keyring:
    """What a member or the driver has: its own keys, and everybody's public ones."""
    return Keyring.of(KEYS[name], [keys.public for keys in KEYS.values()])


class StepParticipant:
    """A participant whose every contribution is a step of its own size away from the base.

    Attributes:
        alter: changes what it contributes.
        before: is called before it contributes.
    """

    def __init__(self, name: str, step: float, weight: float = 1.0) -> None:
        self.name, self.step, self.weight = name, step, weight
        self.tasks: list[RoundTask] = []
        self.adopted: list[tuple[str, int, dict[str, Tensor]]] = []
        self.alter: Callable[[ModelState], ModelState] = lambda state: state
        self.before: Callable[[RoundTask], object] = lambda _task: None

    def initial_state(self, model: str) -> ModelState:
        if model not in {"walk", "run"}:
            raise MethodError(f"there is no model {model}")
        return {"w": torch.zeros(3, 2), "b": torch.full((1,), 5.0)}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        if self.name in {task.options.get("declines"), task.options.get("declines too")}:
            raise MethodError("it does not want to")
        self.tasks.append(task)
        self.before(task)
        state = {name: tensor + self.step * task.number for name, tensor in base.items()}
        return Update(self.alter(state), self.weight, {"step": self.step})

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        self.adopted.append((model, number, dict(state)))


@dataclass
class Member:
    """A node that takes part."""

    node: Node
    bus: Any
    service: RoundService
    participant: StepParticipant
    blob_store: BlobStore
    publisher: CapabilityPublisher

    async def ready(self) -> None:
        """Takes part from now on."""
        await self.service.open(self.participant)
        self.publisher.show("{}")


@dataclass
class MemberGroup:
    """Members, and a driver that requests rounds.

    Attributes:
        cluster: their network.
        compute: makes a compute thread whose jobs take so many seconds.
        names: of the configured members.
        changes: of their specifications.
        floor: of those that join from now on.
        keyed: whether messages are signed and encrypted.
    """

    cluster: Any
    compute: Callable[..., Any]
    names: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    floor: Floor = NO_FLOOR
    members: dict[str, Member] = field(default_factory=dict)
    client: RoundsClient | None = None
    driver: Node | None = None
    keyed: bool = False

    def keys(self, name: str) -> dict[str, Any]:
        """The keys in the specification of a member or the driver."""
        return {"keys": ring(name)} if self.keyed else {}

    async def member(self, name: str, *, folder: Path | None = None, seconds: Any = 1.0, ready: bool = True) -> Member:
        """A member joins."""
        bus = self.cluster.network.bus()
        spec: NodeSpec = self.cluster.spec(
            name, join=self.addresses(), expected=self.names, **self.changes, **self.keys(name)
        )
        node = Node(spec, bus)
        blob_store, publisher = BlobStore(node), CapabilityPublisher(node)
        service = RoundService(node, self.compute(seconds), self.compute(0.0), blob_store, folder, floor=self.floor)
        place = float(self.names.index(name) + 1)
        member = Member(node, bus, service, StepParticipant(name, place, place), blob_store, publisher)
        await self.cluster.enter(node, blob_store, publisher, service)
        self.members[name] = member
        if ready:
            await member.ready()
        return member

    async def start(self, folder: Path | None = None) -> None:
        """All members join, and a driver; each keeps its checkpoints in a folder of its own below `folder`."""
        for name in self.names:
            await self.member(name, folder=folder / name if folder else None)
        await self.add_driver()

    async def add_driver(self, name: str = "driver", *, expected: tuple[str, ...] | None = None) -> RoundsClient:
        """A driver joins and waits until the members are ready; a visitor expects nobody."""
        expected = self.names if expected is None else expected
        bus = self.cluster.network.bus()
        node = Node(
            self.cluster.spec(
                name,
                "guest",
                join=self.addresses(),
                expected=expected,
                timing=self.changes["timing"],
                **self.keys(name),
            ),
            bus,
        )
        peers, blob_store = PeerDirectory(node, expected), BlobStore(node)
        client = RoundsClient(node, peers, blob_store)
        await self.cluster.enter(node, peers, blob_store, client)
        await peers.complete(60)
        self.client, self.driver = client, node
        return client

    def crash(self, name: str) -> None:
        """A member is gone from one moment to the next."""
        member = self.members.pop(name)
        member.bus.crash()
        for work in list(member.node._works):
            work.cancel()
        for other in {*self.names, "driver"}:
            self.cluster.network.heal(f"memory://{name}", f"memory://{other}")

    def crash_on(
        self, name: str, kind: str, *, sent: bool, number: int = 1, receivers: tuple[str, ...] | None = None
    ) -> None:
        """A member crashes when it sends its `number`-th message of a kind: before it, or after a few received it."""
        node, count = self.members[name].node, [0]
        publish = node.publish

        def crashing(topic: str, message: Message) -> None:
            matches = message.kind == kind and (kind != "round_commit" or topic == ROUNDS)  # the driver's copy is later
            count[0] += matches
            if not matches or count[0] != number:
                publish(topic, message)
                return
            if receivers is not None:
                for other in {*self.names, "driver"} - set(receivers):
                    self.cluster.network.cut(f"memory://{name}", f"memory://{other}")
            if sent:
                publish(topic, message)
            asyncio.get_running_loop().call_soon(self.crash, name)

        node.publish = crashing  # type: ignore[method-assign]

    async def run_rounds(self, key: str = "k", rounds: int = 1, **federation: Any) -> tuple[RoundRecord, ...]:
        """Has rounds held."""
        assert self.client is not None
        options, given = federation.pop("options", {}), federation.pop("given", None)
        model = federation.pop("model", "walk")
        plan = RoundPlan(key, model, "step", rounds, Federation.model_validate(federation), options, given)
        async with asyncio.timeout(200):
            return await self.client.run_rounds(plan)

    async def settle(self, seconds: float = 3.0) -> None:
        """Time passes."""
        await asyncio.sleep(seconds)

    def recomputed(self, records: Sequence[RoundRecord], **federation: Any) -> list[str]:
        """The digests that the named contributors' updates must lead to, computed in one process."""
        settings, base, digests = (
            Federation.model_validate(federation),
            StepParticipant("", 0).initial_state("walk"),
            [],
        )
        for number, record in enumerate(records, 1):
            assert record.number == number
            task, states = RoundTask("walk", "step", number), {}
            for name in record.weights:
                participant = StepParticipant(name, float(self.names.index(name) + 1))
                states[name] = participant.contribute(task, model_tensors(base), NullProgress()).state
            base = aggregate(settings, base, states, record.weights)
            digests.append(digest(base))
        return digests

    async def require_converged(self, records: Sequence[RoundRecord], seconds: float = 3.0, **federation: Any) -> None:
        """Every outcome is the recomputed one; within some seconds every member has the last, and keeps it."""
        assert [record.digest for record in records] == self.recomputed(records, **federation)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.digests() != {records[-1].digest}:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.25)
        await self.settle(1.0)
        assert self.digests() == {records[-1].digest}

    def states(self, model: str = "walk") -> dict[str, dict[str, Tensor]]:
        """The members' states of a model."""
        return {name: dict(member.service.store.checkpoints[model].state) for name, member in self.members.items()}

    def digests(self, model: str = "walk") -> set[str]:
        """The digests of the members' states of a model: one, if they agree; empty for none."""
        checkpoints = [member.service.store.checkpoints.get(model) for member in self.members.values()]
        return {checkpoint.version.outcome.digest if checkpoint else "" for checkpoint in checkpoints}

    def leader(self) -> str:
        """The only member that leads."""
        (name,) = [name for name, member in self.members.items() if member.service.election.is_leader]
        return name

    def addresses(self) -> tuple[str, ...]:
        """Of members to join through."""
        addresses = [(name, member.node.address) for name, member in self.members.items()][:2]
        return tuple(f"{name}@{address}" if self.keyed else address for name, address in addresses)


@pytest.fixture
def chunks_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes chunks of so many bytes, a multiple of 8: of the tiny models here there is one chunk otherwise."""

    def make(size: int) -> None:
        for module in (hash_tree, state_file, packed_state, robust, chunkwise, blob_stream, context, reduction):
            monkeypatch.setattr(module, "CHUNK", size)

    return make


@pytest.fixture
def make_group(inline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., MemberGroup]:
    """Makes a group of members, named a, b and c unless told otherwise.

    Most of a story is idle, and heartbeats and sweeps are most of its work: they are rarer here than by default.
    """
    monkeypatch.setattr("nodes.node.SWEEP_INTERVAL", 0.2)

    def make(cluster: Any, *names: str, keyed: bool = False, **changes: Any) -> MemberGroup:
        changes = {"timing": Timing(heartbeat=0.4), **changes}
        return MemberGroup(cluster, inline, names or ("a", "b", "c"), changes, keyed=keyed)

    return make
