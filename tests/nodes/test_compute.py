"""The compute thread and the watch that leads back from it to the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from fednet.api import Stopped
from nodes import compute as computing
from nodes.compute import Bridge, ComputeThread, ThreadProgress, run_until_stopped

PATIENCE = 20.0


class TestCompute:
    async def test_jobs_run_in_order_on_one_thread_that_is_not_the_loops(self) -> None:
        compute, order = ComputeThread("model"), []

        def job(number: int) -> int:
            order.append((number, threading.get_ident()))
            return number * number

        results = await asyncio.gather(*(compute.run(partial(job, n)) for n in range(50)))
        compute.close()
        assert results == [n * n for n in range(50)]
        assert [number for number, _ in order] == list(range(50))
        assert {thread for _, thread in order} != {threading.get_ident()}
        assert len({thread for _, thread in order}) == 1

    async def test_two_devices_do_not_wait_for_each_other(self) -> None:
        solver, model = ComputeThread("solver"), ComputeThread("model")
        answered = threading.Event()
        waiting = solver.run(lambda: answered.wait(PATIENCE))
        await model.run(answered.set)
        assert await waiting
        solver.close()
        model.close()

    async def test_an_error_reaches_who_waits_and_the_thread_lives_on(self) -> None:
        compute = ComputeThread("model")
        with pytest.raises(ZeroDivisionError):
            await compute.run(lambda: 1 // 0)
        assert await compute.run(lambda: 1) == 1
        compute.close()

    async def test_closing_drops_what_has_not_begun(self) -> None:
        compute, begun, go = ComputeThread("model"), threading.Event(), threading.Event()

        def running() -> str:
            begun.set()
            go.wait(PATIENCE)
            return "done"

        never: list[str] = []
        first = compute.run(running)
        compute.run(lambda: never.append("computed"))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        compute.close()
        go.set()
        assert await first == "done"
        await asyncio.to_thread(compute._thread.join, PATIENCE)
        assert not compute._thread.is_alive()
        assert never == []


class TestBridge:
    async def test_a_thread_gets_what_is_awaited_on_the_loop(self) -> None:
        bridge, loop_thread = Bridge(), threading.get_ident()

        async def work(x: int, *, y: int) -> tuple[int, int]:
            await asyncio.sleep(0)
            return x + y, threading.get_ident()

        assert await asyncio.to_thread(bridge.call, work, 1, y=2) == (3, loop_thread)

    async def test_many_threads_cross_at_a_time(self) -> None:
        bridge, opened = Bridge(), asyncio.Event()

        async def work(number: int) -> int:
            if number == 3:
                opened.set()
            await opened.wait()
            return number

        calls = [asyncio.to_thread(bridge.call, work, number) for number in range(4)]
        assert await asyncio.gather(*calls) == list(range(4))

    @pytest.mark.parametrize("early", [True, False])
    async def test_an_error_reaches_the_thread(self, early: bool) -> None:
        bridge = Bridge()

        def fails() -> asyncio.Future[None]:
            failed = asyncio.get_running_loop().create_future()
            if early:
                raise ZeroDivisionError
            failed.set_exception(ZeroDivisionError())
            return failed

        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(bridge.call, fails)

    async def test_closing_ends_a_call_and_cancels_its_work(self) -> None:
        bridge, begun, cancelled = Bridge(), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        waiting = asyncio.ensure_future(asyncio.to_thread(bridge.call, work))
        await begun.wait()
        bridge.close()
        with pytest.raises(Stopped):
            await waiting
        await cancelled.wait()

    async def test_a_closed_bridge_is_crossed_by_nobody(self) -> None:
        bridge, never = Bridge(), []
        bridge.close()
        bridge.close()

        async def work() -> None:
            never.append("worked")

        with pytest.raises(Stopped):
            await asyncio.to_thread(bridge.call, work)
        assert never == []

    def test_no_thread_waits_for_a_loop_that_has_ended_before_it_looked(self) -> None:
        never: list[str] = []
        called, caught = threading.Event(), []

        async def work() -> None:
            never.append("worked")

        def job(bridge: Bridge) -> None:
            called.set()
            try:
                bridge.call(work)
            except Stopped as stopped:
                caught.append(stopped)

        async def main() -> threading.Thread:
            bridge = Bridge()
            thread = threading.Thread(target=job, args=(bridge,), daemon=True)
            thread.start()
            called.wait(PATIENCE)
            while not bridge._calls and not caught:  # blocks the loop, so that the work has not begun
                pass
            bridge.close()
            return thread

        thread = asyncio.run(main())
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(caught) == 1
        assert never == []

    async def test_work_that_is_cancelled_on_the_loop_stops_its_caller(self) -> None:
        bridge: Bridge = Bridge()
        made: list[asyncio.Future[None]] = []

        def work() -> asyncio.Future[None]:
            made.append(asyncio.get_running_loop().create_future())
            made[0].get_loop().call_soon(made[0].cancel)
            return made[0]

        with pytest.raises(Stopped):
            await asyncio.to_thread(bridge.call, work)
        assert not bridge._calls


class TestThreadWatch:
    def progress(self, monkeypatch: pytest.MonkeyPatch) -> tuple[ThreadProgress, list[Any], SimpleNamespace]:
        """A watch, what it tells, and the clock it reads."""
        told: list[Any] = []
        clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(computing, "time", SimpleNamespace(monotonic=lambda: clock.now))
        return ThreadProgress(lambda *said: told.append(said), every=0.25), told, clock

    async def test_reports_of_one_phase_are_throttled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        progress, told, clock = self.progress(monkeypatch)
        for done in range(1, 101):
            clock.now += 0.125
            progress.report("training", done, 1000, loss=1.0)
        await asyncio.sleep(0)
        assert [said[1] for said in told] == list(range(1, 101, 2))

    async def test_beginnings_and_ends_are_always_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        progress, told, _ = self.progress(monkeypatch)
        for phase in ("loading", "training"):
            for done in range(4):
                progress.report(phase, done, 3)
        await asyncio.sleep(0)
        assert [said[:3] for said in told] == [
            ("loading", 0, 3), ("loading", 3, 3), ("training", 0, 3), ("training", 3, 3),
        ]  # fmt: skip

    async def test_values_come_along(self, monkeypatch: pytest.MonkeyPatch) -> None:
        progress, told, _ = self.progress(monkeypatch)
        progress.report("training", 1, 10, loss=0.5, rate=0.1)
        await asyncio.sleep(0)
        assert told == [("training", 1, 10, {"loss": 0.5, "rate": 0.1})]

    async def test_it_tells_on_the_event_loop(self) -> None:
        heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        progress = ThreadProgress(lambda *_said: heard.set_result(threading.get_ident()))
        await asyncio.to_thread(progress.report, "training", 1, 1)
        assert await heard == threading.get_ident()

    async def test_stop_ends_the_computation_at_its_next_report(self) -> None:
        progress, begun = ThreadProgress(lambda *_said: None), threading.Event()

        def train() -> None:
            while True:
                progress.report("training", 0, 1)
                begun.set()

        training = asyncio.ensure_future(asyncio.to_thread(train))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        progress.stop()
        with pytest.raises(Stopped):
            await training


@pytest.mark.parametrize("fails", [True, False])
async def test_a_job_whose_waiter_is_cancelled_ends_without_a_word(*, fails: bool) -> None:
    """A guest that gave up at the moment at which its node did left a traceback behind its one sentence."""
    said: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: said.append(context))
    job: asyncio.Future[None] = loop.create_future()
    waiting = asyncio.create_task(run_until_stopped(asyncio.Event(), ThreadProgress(lambda *_told: None), job))
    await asyncio.sleep(0)
    if fails:
        job.set_exception(RuntimeError("not ready"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert job.done()
    del job
    gc.collect()
    assert said == []
