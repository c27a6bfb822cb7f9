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
from nodes.rounds.checkpoints import Checkpoint
from nodes.rounds.worker import RoundWorker
from protocol.messages.rounds import BlobRef, ModelVersion

Play = Callable[..., Any]


class Scribbler:
    """Writes to whatever it is given."""

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
        assert state.keys() == {"w"}
        state["w"].fill_(99)


def bench(inline: Any) -> tuple[RoundWorker, Scribbler, list[Any]]:
    watches: list[Any] = []

    def progress() -> Any:
        watches.append(SimpleNamespace(stopped=False))
        watches[-1].stop = lambda which=watches[-1]: setattr(which, "stopped", True)
        return watches[-1]

    scribbler = Scribbler()
    return RoundWorker(scribbler, inline(1.0), progress), scribbler, watches


BASE = {"w": torch.zeros(2), "server/m/w": torch.ones(2)}


def kept(letter: str, number: int = 0) -> Checkpoint:
    """The base under a digest of its own."""
    return Checkpoint(ModelVersion(number=number, outcome=BlobRef(digest=letter * 64, size=1)), BASE, b"")


def test_work_is_done_once_for_the_same_task_and_base(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        one, scribbler, watches = bench(inline)
        first, second = await asyncio.gather(*(one.contribute(RoundTask("m", "w", 1), kept("a")) for _ in range(2)))
        assert first.update is second.update
        assert await one.contribute(RoundTask("m", "w", 1), kept("a")) == first
        assert len(scribbler.tasks) == 1
        await one.contribute(RoundTask("m", "w", 1), kept("b"))
        await one.contribute(RoundTask("m", "w", 2), kept("b"))
        assert len(scribbler.tasks) == 3
        assert [progress.stopped for progress in watches] == [True, True, False]

    fake_time(story())


def test_states_belong_to_whoever_gave_them(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        one, scribbler, _ = bench(inline)
        update = (await one.contribute(RoundTask("m", "w", 1), kept("a"))).update
        await one.adopt("m", 1, BASE)
        scribbler.mine.fill_(7)
        assert torch.equal(update.state["w"], torch.ones(2))
        assert torch.equal(BASE["w"], torch.zeros(2))

    fake_time(story())


def test_who_waits_no_more_leaves_the_work_to_the_next(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        one, scribbler, _ = bench(inline)
        waiting = asyncio.ensure_future(one.contribute(RoundTask("m", "w", 1), kept("a")))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.sleep(0.1)
        await one.contribute(RoundTask("m", "w", 1), kept("a"))
        assert len(scribbler.tasks) == 1

    fake_time(story())


def test_what_failed_or_was_stopped_is_tried_again(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        one, scribbler, watches = bench(inline)
        scribbler.fails = 1
        with pytest.raises(MethodError):
            await one.contribute(RoundTask("m", "w", 1), kept("a"))
        await one.contribute(RoundTask("m", "w", 1), kept("a"))
        one.stop()
        assert watches[-1].stopped
        await one.contribute(RoundTask("m", "w", 1), kept("a"))
        assert len(scribbler.tasks) == 3

    fake_time(story())


def test_patient_work_goes_on_until_a_round_has_taken_it(fake_time: Play, inline: Any) -> None:
    async def story() -> None:
        one, scribbler, watches = bench(inline)
        waiting = asyncio.ensure_future(one.contribute(RoundTask("m", "w", 1), kept("a"), buffered=True))
        await asyncio.sleep(0.5)
        waiting.cancel()  # its round has closed without it
        one.interrupt()
        await one.adopt("m", 1, BASE)
        assert not watches[0].stopped
        made = await one.contribute(RoundTask("m", "w", 2), kept("b", 1), buffered=True)
        assert made.base.version.number == 0
        assert [task.number for task in scribbler.tasks] == [1]
        one.counted()
        made = await one.contribute(RoundTask("m", "w", 3), kept("c", 2), buffered=True)
        assert made.base.version.number == 2
        assert [task.number for task in scribbler.tasks] == [1, 3]

    fake_time(story())
