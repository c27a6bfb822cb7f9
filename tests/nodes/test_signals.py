"""Signals: raised or told while somebody handles them, as before afterwards, and 128 + their number as exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

import pytest

from nodes.signals import STOPPING, StopSignal, raise_swallowed, raised, told

pytestmark = pytest.mark.usefixtures("hangups")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_exit_code_is_128_and_the_number(number: signal.Signals, code: int) -> None:
    stop = StopSignal(number)
    assert (stop.exit_code, stop.code, str(stop)) == (code, code, f"interrupted by {number.name}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_while_the_body_runs(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(StopSignal) as caught, raised():
        os.kill(os.getpid(), number)
    assert caught.value.number == number
    assert signal.getsignal(number) is before


async def test_a_signal_is_told_on_the_event_loop_and_earlier_handlers_come_back() -> None:
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[int]()
    with raised():
        before = signal.getsignal(signal.SIGTERM)
        with told(heard.put_nowait):
            for number in STOPPING:
                os.kill(os.getpid(), number)
                assert await heard.get() == number
        assert signal.getsignal(signal.SIGTERM) is before
    assert loop.is_running()


async def test_a_signal_that_somebody_swallowed_is_raised_or_told() -> None:
    heard = asyncio.Queue[int]()
    with raised():
        with contextlib.suppress(StopSignal):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopSignal, match="SIGTERM"):
            raise_swallowed()
        with told(heard.put_nowait):
            assert await asyncio.wait_for(heard.get(), 10) == signal.SIGTERM
    raise_swallowed()
    with raised(), told(heard.put_nowait):
        await asyncio.sleep(0)
    assert heard.empty()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_off_the_main_thread_there_are_none() -> None:
    outcome: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with raised():
            outcome.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == [True]
