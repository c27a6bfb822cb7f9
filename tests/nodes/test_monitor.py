"""Who only listens hears who is there, how far everybody is, and who is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from nodes.client import run_client
from nodes.monitor import Monitor, RunEvent
from nodes.retransmission import MIN_HEARD
from nodes.transport.zmq import ZmqTransport
from protocol.codec import Envelope
from protocol.messages import Capabilities, Heartbeat, ProgressReport
from protocol.messages.progress import QUARANTINE
from protocol.security.budget import ALLOWANCES, Cost
from protocol.topics import HEARTBEATS, PRESENCE, PROGRESS

PATIENCE = 20.0


class Diary:
    """The events, and waiting for one."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self._changed = asyncio.Event()

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, *wanted: tuple[str, str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not set(wanted) <= {(event.node, event.kind) for event in self.events}:
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: str) -> list[RunEvent]:
        return [event for event in self.events if event.kind == kind]


async def test_it_tells_of_a_client_from_its_coming_to_its_leaving(real_spec: Callable[..., Any], scaling: Any) -> None:
    diary, stop = Diary(), asyncio.Event()
    async with Monitor(real_spec("monitor", "monitor"), diary):
        running = asyncio.create_task(run_client(real_spec("c0"), stop))
        await diary.until(("c0", "joined"), ("c0", "ready"))
        stop.set()
        await diary.until(("c0", "left"))
        await running
    (joined,), (left,) = diary.of("joined"), diary.of("left")
    assert joined.data == {"role": "client", "address": real_spec("c0").listen}
    assert left.data == {"reason": "stopped"}
    assert joined.time <= left.time


async def test_it_tells_of_progress(real_spec: Callable[..., Any], scaling: Any) -> None:
    diary, stop, seen = Diary(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Training:
        def prepare(self, progress: Any) -> str:
            asyncio.run_coroutine_threadsafe(seen.wait(), loop).result(PATIENCE)
            progress.report("training", 3, 10, loss=0.5)
            return "{}"

    scaling.agent = lambda *_told: Training()
    async with Monitor(real_spec("monitor", "monitor"), diary):
        running = asyncio.create_task(run_client(real_spec("c0"), stop))
        await diary.until(("c0", "joined"))
        seen.set()
        await diary.until(("c0", "progress"), ("c0", "ready"))
        stop.set()
        await running
    (progress,) = diary.of("progress")
    assert progress.data == {"phase": "training", "done": 3, "total": 10, "values": {"loss": 0.5}, "note": ""}


async def test_it_tells_once_of_a_node_that_is_heard_by_repair(real_spec: Callable[..., Any], scaling: Any) -> None:
    diary, report = Diary(), ProgressReport(phase="training", done=0, total=0, values={})
    beat = Envelope(HEARTBEATS, "test", "c0", 1, 0, Heartbeat(tick=1, latest={}))
    async with Monitor(real_spec("monitor", "monitor"), diary) as monitor:
        repair = monitor.node._retransmission
        repair.start("c0", 1, {})
        for number in range(1, 2 * MIN_HEARD):
            repair.accept(Envelope(PROGRESS, "test", "c0", 1, number, report), 0.0, again=number % 4 == 0)
            monitor.handlers[Heartbeat](beat, beat.message)
    (event,) = diary.events
    assert (event.node, event.kind) == ("c0", "repair")
    assert event.data["share"] == pytest.approx(0.25, abs=0.02)


async def test_it_tells_of_a_death(real_spec: Callable[..., Any], scaling: Any, monkeypatch: Any) -> None:
    buses: list[ZmqTransport] = []

    def remembered(**given: Any) -> ZmqTransport:
        buses.append(ZmqTransport(**given))
        return buses[-1]

    monkeypatch.setattr("nodes.client.ZmqTransport", remembered)
    diary, stop = Diary(), asyncio.Event()
    async with Monitor(real_spec("monitor", "monitor"), diary):
        running = asyncio.create_task(run_client(real_spec("c0"), stop))
        await diary.until(("c0", "joined"), ("c0", "ready"))  # it may be ready before it hears the monitor
        await buses[0].close()  # without a goodbye, as a killed process
        await diary.until(("c0", "lost"))
        stop.set()
        await running
    (lost,) = diary.of("lost")
    assert lost.data["reason"].startswith("its connection broke")


async def test_it_tells_once_of_a_node_whose_clock_differs(real_spec: Callable[..., Any], scaling: Any) -> None:
    diary = Diary()
    async with Monitor(real_spec("c0", "monitor"), diary) as monitor:
        clocks = monitor.node._membership.clocks
        for now in (0.0, 10.0):
            clocks.heard("c1", 400.0, 1000.0, now)
        beat = Envelope(HEARTBEATS, "test", "c1", 1, 0, Heartbeat(tick=1, latest={}, clock=400.0))
        for _ in range(3):
            monitor.handlers[Heartbeat](beat, beat.message)
    (event,) = diary.of("clock")
    assert (event.node, event.data) == ("c1", {"ahead": -600.0})


async def test_it_tells_whom_a_node_has_barred(real_spec: Callable[..., Any], scaling: Any) -> None:
    diary = Diary()
    async with Monitor(real_spec("c0", "monitor"), diary) as monitor:
        report = ProgressReport(phase=QUARANTINE, done=0, total=0, values={}, note="x is quarantined for 10 s: why")
        monitor.handlers[ProgressReport](Envelope(PROGRESS, "test", "c1", 1, 1, report), report)
    assert [(event.node, event.data) for event in diary.of("quarantine")] == [("c1", {"note": report.note})]
    assert not diary.of("progress")


async def test_whatever_a_peer_reports_it_fills_no_disk(real_spec: Callable[..., Any], scaling: Any) -> None:
    """A launcher writes every event to a file; those of the other peers are told as before."""
    diary = Diary()
    values = {f"{number}".ljust(64, "\U0001f600"): 0.5 for number in range(256)}
    large = ProgressReport(phase="training", done=1, total=2, values=values)
    barred = ProgressReport(phase=QUARANTINE, done=0, total=0, values={}, note="x" * 200)
    async with Monitor(real_spec("c0", "monitor"), diary) as monitor:

        def hear(name: str, topic: str, message: Any) -> None:
            monitor.handlers[type(message)](Envelope(topic, "test", name, 1, 1, message), message)

        for _ in range(100):
            hear("c1", PROGRESS, large)
        for _ in range(3000):
            hear("c1", PRESENCE, Capabilities(text="{}", ready=True))
            hear("c1", PROGRESS, barred)
        hear("c2", PROGRESS, large)
        written = sum(len(json.dumps(event.data)) for event in diary.events)
        assert written < 1.1 * ALLOWANCES[Cost.REPORTS].burst
        assert len(diary.events) < 100 + 3000
        assert diary.events[-1].node == "c2"
        assert not monitor.node.faults
