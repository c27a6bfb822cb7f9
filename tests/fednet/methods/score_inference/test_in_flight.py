"""Works in flight: some at once, results in order, the first error, one progress."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from fednet.api import NullProgress, Progress, Stopped
from fednet.methods.score_inference.in_flight import in_flight


class Told:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int, int]] = []

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.reports.append((phase, done, total))


def test_two_run_at_once_and_results_keep_their_order() -> None:
    both = threading.Barrier(2, timeout=30)

    def work(index: int) -> Callable[[Progress], int]:
        def run(progress: Progress) -> int:
            both.wait()  # breaks unless another one runs
            progress.report("", 1, 1)
            return index

        return run

    told = Told()
    assert in_flight([work(index) for index in range(4)], 2, "drawing", told) == [0, 1, 2, 3]
    assert told.reports == [("drawing", done, 1000) for done in (250, 500, 750, 1000)]


def test_one_at_a_time_stays_on_the_thread() -> None:
    threads = in_flight([lambda _: threading.current_thread()] * 3, 1, "drawing", NullProgress())
    assert set(threads) == {threading.current_thread()}


def test_when_one_fails_the_others_end_and_its_error_is_raised() -> None:
    begun = threading.Event()

    def endless(progress: Progress) -> None:
        begun.set()
        while True:
            progress.report("", 0, 1)

    def failing(_: Progress) -> None:
        begun.wait(30)
        raise ValueError("no site answers")

    with pytest.raises(ValueError, match="no site answers"):
        in_flight([endless, failing, endless], 2, "drawing", NullProgress())


def test_who_is_asked_to_end_ends_all() -> None:
    class Ending:
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            raise Stopped

    with pytest.raises(Stopped):
        in_flight([lambda progress: progress.report("", 0, 1)] * 3, 2, "drawing", Ending())
