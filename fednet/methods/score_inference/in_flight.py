"""Batches in flight: while the asker combines the answers to one, the sites answer the questions of another.

Each batch is drawn by a plain function on a thread of its own, a few at a time; it has its own noise and its own state,
so the results are those of one batch after the other, bit for bit. When one fails the others end at their next report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fednet.api import Progress, Stopped

T = TypeVar("T")


def in_flight(works: Sequence[Callable[[Progress], T]], most: int, phase: str, progress: Progress) -> list[T]:
    """The results of all works in their order, of which at most `most` run at once.

    Args:
        works: each is given a progress of its own.
        most: at least 1.
        phase: under which the progress of all is reported as one.
        progress: is told, by one thread at a time; may ask for the end.

    Raises:
        Exception: the error of the first work, in their order, that failed by itself.
    """
    shared = _SharedProgress(progress, phase, len(works))
    if most == 1 or len(works) == 1:
        return [work(shared.part(index)) for index, work in enumerate(works)]

    def run(index: int) -> T:
        try:
            return works[index](shared.part(index))
        except BaseException:
            shared.failed.set()
            raise

    with ThreadPoolExecutor(most, thread_name_prefix="batch") as pool:
        futures = [pool.submit(run, index) for index in range(len(works))]
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])
    return [future.result() for future in futures]


class _SharedProgress:
    """One progress of several works, each of which reports how much of it is done."""

    def __init__(self, progress: Progress, phase: str, count: int) -> None:
        self.failed = threading.Event()
        self._progress, self._phase, self._lock = progress, phase, threading.Lock()
        self._done = [0.0] * count

    def part(self, index: int) -> Progress:
        """The progress of one of them."""
        return _Part(self, index)

    def report(self, index: int, done: float, values: dict[str, float]) -> None:
        if self.failed.is_set():
            raise Stopped
        with self._lock:
            self._done[index] = done
            whole = round(1000 * sum(self._done) / len(self._done))
            self._progress.report(self._phase, whole, 1000, **values)


class _Part:
    def __init__(self, shared: _SharedProgress, index: int) -> None:
        self._shared, self._index = shared, index

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self._shared.report(self._index, done / total, values)
