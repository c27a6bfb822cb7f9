"""Threads beside the event loop: the compute thread of a device, and the bridge by which a thread calls async code.

Models never run on the event loop. A solver has a thread of its own: it waits for answers, among them those of its own
node's model, and on the model's thread the two would wait for each other forever.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from fednet.api import Stopped

P = ParamSpec("P")
T = TypeVar("T")


class ComputeThread:
    """One worker thread; jobs run in the order in which they came.

    Leaner than an executor, since a query passes through it at every solver step: one queue, and one wake-up of the
    event loop for each result.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], object], Callable[[], object]]] = (
            SimpleQueue()
        )  # with what drops them
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Runs a job on the thread; its result or error comes back on the event loop's future."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                settle: Callable[[], None] = partial(future.set_result, job())
            except Exception as error:
                settle = partial(future.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else settle())

        self._put(work, future.cancel)
        return future

    def post(self, job: Callable[[], T], deliver: Callable[[T], None]) -> None:
        """Runs a job on the thread and there hands its result to `deliver`, without waking the event loop.

        Neither may raise. A job that has not begun when the thread is closed is dropped.
        """
        self._put(lambda: deliver(job()), lambda: None)

    def _put(self, work: Callable[[], object], drop: Callable[[], object]) -> None:
        if self._closed:
            raise RuntimeError(f"{self._thread.name} takes no more jobs")
        self._jobs.put((work, drop))

    def close(self) -> None:
        """Takes no more jobs and cancels those not begun; a running one ends when it next reports its progress."""
        self._closed = True
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()[1]()
        self._jobs.put((lambda: None, lambda: None))

    async def ended(self, patience: float = 3.0) -> None:
        """Waits, after `close`, until the running job has ended, for so many seconds at most.

        A thread that is inside torch when the interpreter ends takes the process down with "terminate called".
        """
        await asyncio.to_thread(self._thread.join, patience)

    def _work(self) -> None:
        while not self._closed:
            work, _ = self._jobs.get()
            work()


class Bridge:
    """By which other threads wait for what happens on an event loop.

    Made on the event loop, and closed there before the loop ends: then no thread waits any more.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._calls: set[Future[Any]] = set()

    def call(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `await work(*args, **kwargs)` on the event loop; called from any other thread.

        Raises:
            Stopped: the bridge was closed, before the call or during it; the work was cancelled.
            BaseException: what the work raised.
        """

        def begin() -> Future[T]:
            future: Future[T] = Future()
            self._loop.call_soon_threadsafe(self._start, future, partial(work, *args, **kwargs))
            return future

        return self.wait(begin)

    def wait(self, begin: Callable[[], Future[T]]) -> T:
        """The result of the future that `begin` returns, which is called on this thread and must not wait.

        Raises:
            Stopped: the bridge was closed, before the call or during it; the future was cancelled.
            BaseException: what `begin` raised, or the future's exception.
        """
        with self._lock:
            if self._closed:
                raise Stopped
            future = begin()
            self._calls.add(future)
        try:
            return future.result()
        except CancelledError:
            raise Stopped from None
        finally:
            self._calls.discard(future)
            future.cancel()  # after a KeyboardInterrupt, on the main thread: nobody waits for it any more

    def close(self) -> None:
        """Ends every call with `Stopped` and cancels its work; later calls raise `Stopped`."""
        with self._lock:
            self._closed = True
        for future in list(self._calls):
            future.cancel()

    def _start(self, future: Future[T], work: Callable[[], Awaitable[T]]) -> None:
        if not future.cancelled():
            task = self._loop.create_task(self._run(future, work))
            future.add_done_callback(partial(self._cancel_with, task))

    async def _run(self, future: Future[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            settle: Callable[[], None] = partial(future.set_result, await work())
        except asyncio.CancelledError:
            future.cancel()
            return
        except Exception as error:
            settle = partial(future.set_exception, error)
        if future.set_running_or_notify_cancel():
            settle()

    def _cancel_with(self, task: asyncio.Task[None], future: Future[Any]) -> None:
        """Cancels the task, from any thread, if its future is: nobody waits for it any more."""
        if future.cancelled():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(task.cancel)


class ThreadProgress:
    """A `Progress` for a computation on another thread: reports reach the event loop at most every `every` seconds."""

    def __init__(self, tell: Callable[[str, int, int, dict[str, float]], None], every: float = 0.25) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._every = every
        self._stop = threading.Event()
        self._last = ("", 0.0)

    def stop(self) -> None:
        """Asks the computation to end at its next report."""
        self._stop.set()

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Tells the event loop, when enough time has passed or the phase begins or ends."""
        if self._stop.is_set():
            raise Stopped
        now = time.monotonic()
        last_phase, at = self._last
        if phase != last_phase or done >= total or now - at >= self._every:
            self._last = (phase, now)
            self._loop.call_soon_threadsafe(self._tell, phase, done, total, values)


async def run_until_stopped(stop: asyncio.Event, progress: ThreadProgress, job: asyncio.Future[T]) -> T:
    """The job's result, unless `stop` is set first: then the job is asked to end, as it is where nobody waits any more.

    Raises:
        Stopped: `stop` was set first.
    """
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((job, stopped), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        job.cancel()
        job.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks how it has ended
        raise
    finally:
        stopped.cancel()
    if job.done():
        return job.result()
    progress.stop()
    job.cancel()
    raise Stopped
