"""An outcome is adopted as a whole, whatever is cancelled meanwhile; what peers send is checked where it enters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.floors import Floor
from fednet.federated.packed_state import PackedState
from fednet.federated.state import digest, pack
from nodes.rounds.checkpoints import CheckpointStore
from nodes.rounds.context import RoundContext, wait_finished
from nodes.rounds.revealed import RevealedSums
from protocol.messages.round_values import BlobRef

Play = Callable[..., Any]
Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


def test_a_cancellation_takes_effect_afterwards(fake_time: Play) -> None:
    async def story() -> None:
        done: list[int] = []

        async def work() -> None:
            await asyncio.sleep(5)
            done.append(1)

        async def wait() -> None:
            await wait_finished(asyncio.ensure_future(work()))
            done.append(2)

        waiting = asyncio.ensure_future(wait())
        for _ in range(3):
            await asyncio.sleep(1)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert done == [1]

    fake_time(story())


@pytest.mark.parametrize("moment", [0.3, 1.2, 2.2, 2.9])
def test_a_participant_has_the_state_of_its_member(tell: Tell, make_group: MakeGroup, moment: float) -> None:
    """The leader crashes while the others adopt or compute: no member ends between two rounds."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        task = asyncio.ensure_future(group.run_rounds(rounds=3))
        await asyncio.sleep(moment)
        group.crash("a")
        await task
        await group.settle()
        for member in group.members.values():
            model, number, state = member.participant.adopted[-1]
            assert number == member.service.store.checkpoints[model].version.number == 3
            assert all(state[name].equal(each) for name, each in member.service.store.checkpoints[model].state.items())
            assert not member.service.store.votes

    tell(story)


LIKE = {"w": torch.zeros(3)}


class Stream:
    """The one chunk of a state's file."""

    def __init__(self, packed: PackedState) -> None:
        self.tree, self.file = packed.tree, packed.file

    async def take(self) -> memoryview:
        return self.file

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to do."""


class Blobs:
    """Holds one state."""

    def __init__(self, packed: PackedState) -> None:
        self.packed = packed

    def stream(self, key: str, size: int, holders: list[str]) -> Stream:
        assert (key, size) == (self.packed.tree.root, self.packed.tree.size)
        return Stream(self.packed)


def context_and_blob(state: ModelState, compute: Any) -> tuple[RoundContext, BlobRef]:
    """The context of a member whose peers hold one state."""
    packed = PackedState.of(state)
    blob = BlobRef(digest=packed.tree.root, size=packed.tree.size)
    missing: Any = None
    blobs: Any = Blobs(packed)
    revealed, floor = RevealedSums(None), Floor()
    store = CheckpointStore(None)
    return RoundContext("a", missing, store, blobs, compute, print, print, missing, missing, int, revealed, floor), blob


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"w": torch.tensor([1.0, torch.nan, 0.0])}, "x: tensor 'w' has 1 of 3 values that are not finite"),
        ({"v": torch.zeros(3)}, "x: the model has no tensor 'v'"),
        ({"w": torch.zeros(3, dtype=torch.int32)}, "x: tensor 'w' is int32"),
        ({"w": torch.zeros(2)}, "x: tensor .w. is float32"),
        ({"w": torch.zeros(3), "server/velocity/w": torch.zeros(3)}, "bytes were offered, expected 76 at most"),
        ({}, "is missing|bytes were offered"),
    ],
)
def test_an_invalid_state_of_a_peer_is_refused(fake_time: Play, inline: Any, state: ModelState, reason: str) -> None:
    async def story() -> None:
        context, blob = context_and_blob(state, inline())
        with pytest.raises(ModelError, match=reason):
            await context.fetch_state(blob, ["b"], LIKE, "x")

    fake_time(story())


def test_a_state_of_a_peer_comes_with_its_tree_and_with_slots_where_it_may(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        slots = {**LIKE, "server/velocity/w": torch.ones(3)}
        for state in (LIKE, slots):
            context, blob = context_and_blob(state, inline())
            packed = await context.fetch_state(blob, ["b"], LIKE, "x", with_slots=state is slots)
            assert packed.tree.root == blob.digest == digest(packed.state)
            assert bytes(packed.file) == pack(state)
        with pytest.raises(ModelError, match="x: 1073741824 bytes were offered"):
            await context.fetch_state(blob.model_copy(update={"size": 1 << 30}), ["b"], LIKE, "x", with_slots=True)

    fake_time(story())
