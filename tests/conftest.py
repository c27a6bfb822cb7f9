"""What all tests share: fake time, an ear on the wire, one thread a worker, and a garbage collector that rarely runs.

`fake_time(story())` runs a coroutine on an event loop whose clock jumps to the next timer instead of waiting for
it. Whatever asks the loop for the time (`asyncio.sleep`, `asyncio.timeout`, `call_later`, `loop.time()`) lives on
that clock, so minutes of silence take milliseconds and a story replays the same way on a slow machine.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import selectors
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a busy machine is no failure

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: the workers share the cores already

gc.set_threshold(10_000, 20, 20)  # with Python's own, a tenth of the CPU of tests that build networks goes to it

JUDGED = "tests/fednet/metrics/"
"""Whose tests share a trained judge."""

T = TypeVar("T")

Play = Callable[[Coroutine[Any, Any, T]], T]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` a worker takes whole files; the tests that share a judge are for one of them, too."""
    if config.getvalue("dist") != "loadfile":
        return None
    scheduling = importlib.import_module("xdist.scheduler").LoadFileScheduling(config, log)
    file_of = scheduling._split_scope
    scheduling._split_scope = lambda test: JUDGED if test.startswith(JUDGED) else file_of(test)
    return scheduling


class _Jumping(selectors.DefaultSelector):
    """Never waits: a wait that nothing ends in the meantime becomes a jump of the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("every task of this story waits for something that will never happen")
        if not events and timeout:
            self.now += timeout + 1e-9  # so that rounding never stops just before the timer
        return events


class FakeClock(asyncio.SelectorEventLoop):
    """An event loop on fake time, which never stands quite still: timers go off in the order they were set in.

    It has no use for threads: nothing would wait for them.
    """

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        self._jumping.now += 1e-9
        return self._jumping.now


@pytest.fixture
def fake_time() -> Play[Any]:
    """Runs a coroutine to its end on fake time and returns its result."""

    def play(story: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=FakeClock) as runner:
            return runner.run(story)

    return play


@pytest.fixture
def hangups() -> Iterator[None]:
    """SIGHUP does what it does by default, also under nohup, which has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts commands without importing everything anew; see `WarmPython` in `warm.py`. All workers share it."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        warm = importlib.import_module("warm")
    with warm.WarmPython(shared / "warm") as python:
        yield python


@pytest.fixture
def wiretap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that hears every frame that nodes publish; see `Wiretap` there."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("wiretap")
