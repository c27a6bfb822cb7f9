"""An outcome is adopted as a whole, whatever is cancelled meanwhile; what peers send is checked where it enters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.state import digest, pack
from nodes.rounds.context import RoundContext, wait_finished
from protocol.messages.rounds import BlobRef

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


class Blobs:
    """Holds the packed bytes of one state."""

    def __init__(self, state: ModelState) -> None:
        self.data = pack(state)

    async def fetch(self, key: str, size: int, holders: list[str]) -> memoryview:
        return memoryview(self.data)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"w": torch.tensor([1.0, torch.nan, 0.0])}, "x: tensor 'w' has 1 of 3 values that are not finite"),
        ({"w": torch.zeros(2)}, "x: tensor 'w' is float32"),
        ({"w": torch.zeros(3), "server/velocity/w": torch.zeros(3)}, "the model has no tensor"),
        ({}, "is missing"),
    ],
)
def test_an_invalid_state_of_a_peer_is_refused(fake_time: Play, inline: Any, state: ModelState, reason: str) -> None:
    async def story() -> None:
        context = RoundContext("a", "run", None, None, Blobs(state), inline(), print, print)  # type: ignore[arg-type]
        blob = BlobRef(digest=digest(state), size=len(pack(state)))
        with pytest.raises(ModelError, match=reason):
            await context.fetch_state(blob, ["b"], LIKE, "x")

    fake_time(story())


def test_other_bytes_and_too_many_are_refused(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        context = RoundContext("a", "run", None, None, Blobs(LIKE), inline(), print, print)  # type: ignore[arg-type]
        blob = BlobRef(digest=digest(LIKE), size=len(pack(LIKE)))
        state, data = await context.fetch_state(blob, ["b"], LIKE, "x")
        assert digest(state) == blob.digest
        assert bytes(data) == pack(LIKE)
        with pytest.raises(ModelError, match="are not the state 000000000000"):
            await context.fetch_state(blob.model_copy(update={"digest": "0" * 64}), ["b"], LIKE, "x")
        with pytest.raises(ModelError, match="expected 12"):
            await context.fetch_state(blob.model_copy(update={"size": 1 << 20}), ["b"], LIKE, "x")

    fake_time(story())
