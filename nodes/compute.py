"""The one thread on which a device computes, so that models never run on the event loop.

A solver has a thread of its own: it waits for answers, among them those of its own node's model, and on the
model's thread the two would wait for each other forever.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from fednet.api import Stopped

T = TypeVar("T")


class ComputeThread:
    """One worker thread; jobs run in the order in which they came.

    Leaner than an executor, since a query passes through it at every solver step: one queue, and one wake-up of the
    event loop for each result.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], None]]] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Runs a job on the thread; its result or error comes back on the event loop's future."""
        if self._closed:
            raise RuntimeError(f"{self._thread.name} takes no more jobs")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                settle: Callable[[], None] = partial(future.set_result, job())
            except Exception as error:
                settle = partial(future.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else settle())

        self._jobs.put((future, work))
        return future

    def close(self) -> None:
        """Takes no more jobs and cancels those not begun; a running one ends at its next look at its watch."""
        self._closed = True
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()[0].cancel()
        self._jobs.put((asyncio.Future(), lambda: None))

    async def ended(self, patience: float = 3.0) -> None:
        """Waits, after `close`, until the running job has ended, for so many seconds at most.

        A thread that is inside torch when the interpreter ends takes the process down with "terminate called".
        """
        await asyncio.to_thread(self._thread.join, patience)

    def _work(self) -> None:
        while not self._closed:
            future, work = self._jobs.get()
            if not future.cancelled():
                work()


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
        said, at = self._last
        if phase != said or done >= total or now - at >= self._every:
            self._last = (phase, now)
            self._loop.call_soon_threadsafe(self._tell, phase, done, total, values)


async def run_until_stopped(stop: asyncio.Event, progress: ThreadProgress, job: asyncio.Future[T]) -> T:
    """The job's result, unless `stop` is set first: then the job is asked to end.

    Raises:
        Stopped: `stop` was set first.
    """
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((job, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if job.done():
        return job.result()
    progress.stop()
    job.cancel()
    raise Stopped
