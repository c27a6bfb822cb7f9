"""The same work is done once, states are never shared, and work that no round waits for stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fednet.api import Progress, RoundTask, Update
from fednet.errors import MethodError
from fednet.federated.packed_state import PackedState
from fednet.federated.state_storage import WritableStorage
from nodes.rounds.checkpoints import Checkpoint
from nodes.rounds.worker import RoundWorker
from protocol.messages.round_values import BlobRef, ModelVersion

Play = Callable[..., Any]


class WritingParticipant:
    """Writes to every state that it is given."""

    def __init__(self) -> None:
        self.tasks: list[RoundTask] = []
        self.fails = 0

    def initial_state(self, model: str) -> Any:
        return {"w": torch.zeros(2)}

    def contribute(self, task: RoundTask, base: Any, progress: Progress) -> Update:
        self.tasks.append(task)
        if self.fails:
            self.fails -= 1
            raise MethodError("not now")
        self.mine = base["w"].add_(task.number)
        assert "server/m/w" not in base
        return Update({"w": self.mine}, 1.0)

    def adopt(self, model: str, number: int, state: Any) -> None:
        if number < 0:
            raise MethodError("no room")
        assert state.keys() == {"w"}
        state["w"].fill_(99)


def make_worker(inline: Any) -> tuple[RoundWorker, WritingParticipant, list[Any]]:
    progresses: list[Any] = []

    def progress() -> Any:
        progresses.append(SimpleNamespace(stopped=False))
        progresses[-1].stop = lambda which=progresses[-1]: setattr(which, "stopped", True)
        return progresses[-1]

    participant = WritingParticipant()
    return RoundWorker(participant, inline(1.0), progress, WritableStorage), participant, progresses


BASE = {"w": torch.zeros(2), "server/m/w": torch.ones(2)}


def checkpoint(letter: str, number: int = 0) -> Checkpoint:
    """The base under a digest of its own."""
    return Checkpoint(ModelVersion(number=number, outcome=BlobRef(digest=letter * 64, size=1)), PackedState.of(BASE))


def test_work_is_done_once_for_the_same_task_and_base(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        worker, participant, progresses = make_worker(inline)
        first, second = await asyncio.gather(
            *(worker.contribute(RoundTask("m", "w", 1), checkpoint("a")) for _ in range(2))
        )
        assert first.update is second.update
        assert await worker.contribute(RoundTask("m", "w", 1), checkpoint("a")) == first
        assert len(participant.tasks) == 1
        await worker.contribute(RoundTask("m", "w", 1), checkpoint("b"))
        await worker.contribute(RoundTask("m", "w", 2), checkpoint("b"))
        assert len(participant.tasks) == 3
        assert [progress.stopped for progress in progresses] == [True, True, False]

    fake_time(story())


def test_states_are_copied_both_ways(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        worker, participant, _ = make_worker(inline)
        update = (await worker.contribute(RoundTask("m", "w", 1), checkpoint("a"))).update
        await worker.adopt("m", 1, BASE)
        participant.mine.fill_(7)
        assert torch.equal(update.state["w"], torch.ones(2))
        assert torch.equal(BASE["w"], torch.zeros(2))

    fake_time(story())


def test_a_cancelled_caller_leaves_the_work_to_the_next(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        worker, participant, _ = make_worker(inline)
        waiting = asyncio.ensure_future(worker.contribute(RoundTask("m", "w", 1), checkpoint("a")))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.sleep(0.1)
        await worker.contribute(RoundTask("m", "w", 1), checkpoint("a"))
        assert len(participant.tasks) == 1

    fake_time(story())


def test_failed_or_stopped_work_is_repeated(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        worker, participant, progresses = make_worker(inline)
        participant.fails = 1
        with pytest.raises(MethodError):
            await worker.contribute(RoundTask("m", "w", 1), checkpoint("a"))
        await worker.contribute(RoundTask("m", "w", 1), checkpoint("a"))
        worker.stop()
        assert progresses[-1].stopped
        await worker.contribute(RoundTask("m", "w", 1), checkpoint("a"))
        assert len(participant.tasks) == 3

    fake_time(story())


def test_buffered_work_continues_until_a_round_has_counted_it(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        worker, participant, progresses = make_worker(inline)
        waiting = asyncio.ensure_future(worker.contribute(RoundTask("m", "w", 1), checkpoint("a"), buffered=True))
        await asyncio.sleep(0.5)
        waiting.cancel()  # its round has closed without it
        worker.interrupt()
        await worker.adopt("m", 1, BASE)
        assert not progresses[0].stopped
        local = await worker.contribute(RoundTask("m", "w", 2), checkpoint("b", 1), buffered=True)
        assert local.base.version.number == 0
        assert [task.number for task in participant.tasks] == [1]
        worker.counted()
        local = await worker.contribute(RoundTask("m", "w", 3), checkpoint("c", 2), buffered=True)
        assert local.base.version.number == 2
        assert [task.number for task in participant.tasks] == [1, 3]

    fake_time(story())


def test_a_model_is_held_once_the_participant_has_taken_its_last_outcome(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        worker, _, _ = make_worker(inline)
        assert worker.holds("m")
        with pytest.raises(MethodError, match="no room"):
            await worker.adopt("m", -1, BASE)
        assert not worker.holds("m")
        assert worker.holds("another")
        await worker.adopt("m", 2, BASE)
        assert worker.holds("m")

    fake_time(story())
