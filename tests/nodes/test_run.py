"""One node in this process: it refuses a device that is not there, and ends on a signal as its role demands."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fednet.errors import MethodError
from nodes import run as running
from nodes.errors import NodeError
from nodes.signals import StopSignal
from nodes.spec import NodeSpec


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["cuda:99", f"cuda:{torch.cuda.device_count()}"])
def test_a_device_that_does_not_exist_is_refused_by_name(real_spec: Callable[..., NodeSpec], device: str) -> None:
    with pytest.raises(NodeError, match=f"device {device} does not exist here: {torch.cuda.device_count()} CUDA"):
        running.run(real_spec("c0", device=device))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_client_that_is_asked_to_stop_returns(
    real_spec: Callable[..., NodeSpec], scaling: Any, signum: signal.Signals
) -> None:
    class Training:
        def prepare(self, progress: Any) -> str:
            os.kill(os.getpid(), signum)
            while True:
                progress.report("training", 0, 1)

    scaling.agent = lambda *_told: Training()
    running.run(real_spec("c0"))


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guest_that_is_asked_to_stop_has_not_done_its_job(
    real_spec: Callable[..., NodeSpec], scaling: Any, signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = running.ROLES["guest"]

    async def signalled(spec: NodeSpec, stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signum)
        await role(spec, stop)

    monkeypatch.setitem(running.ROLES, "guest", signalled)
    with pytest.raises(StopSignal) as stopped:
        running.run(real_spec("guest", "guest", expected=("c0",)))
    assert stopped.value.number == signum


def test_what_goes_wrong_is_raised(real_spec: Callable[..., NodeSpec], scaling: Any) -> None:
    def fail(*_told: Any) -> Any:
        raise MethodError("cannot")

    scaling.agent = fail
    with pytest.raises(MethodError, match="cannot"):
        running.run(real_spec("c0"))


def test_it_computes_with_the_threads_it_was_given(
    real_spec: Callable[..., NodeSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def role(_spec: NodeSpec, _stop: asyncio.Event) -> None:
        assert torch.get_num_threads() == 2

    monkeypatch.setitem(running.ROLES, "guest", role)
    running.run(real_spec("guest", "guest", threads=2))
