"""Runs one node in this process, from its specification to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import torch

from fednet.api import Stopped
from nodes.client import run_client
from nodes.driver import Job, run_driver, run_guest
from nodes.errors import NodeError
from nodes.log_lines import log_to_stderr
from nodes.progress import ProgressListener
from nodes.signals import StopSignal, told
from nodes.spec import NodeSpec

T = TypeVar("T")

ROLES: dict[str, Callable[[NodeSpec, asyncio.Event], Awaitable[None]]] = {"client": run_client, "guest": run_driver}
"""What a process of each role does; a monitor is `nodes.monitor.Monitor`, held by whoever wants to know."""


def run(spec: NodeSpec) -> None:
    """Runs a node until its work is done, or a signal asks it to stop.

    A client that is asked to stop returns; a guest has not done its job and raises `StopSignal`.

    Raises:
        NodeError: it cannot listen, or too few peers are there.
        MethodError: what it should compute cannot be computed.
    """
    log_to_stderr()
    torch.set_num_threads(spec.threads)
    spec = replace(spec, device=_chosen_device(spec.device))
    asyncio.run(_until_signalled(lambda stop: ROLES[spec.role](spec, stop)))


def run_visit(spec: NodeSpec, job: Job[T], listener: ProgressListener | None = None) -> T:
    """Visits a run as a guest, does one job there, and returns what came of it; `listener` hears how far it is.

    Raises:
        NodeError: it cannot listen, or too few peers are there.
        MethodError: the job cannot be done.
        StopSignal: a signal came first.
    """
    return asyncio.run(_until_signalled(lambda stop: run_guest(spec, job, stop, listener)))


async def _until_signalled(work: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    stop, signals = asyncio.Event(), list[int]()

    def end(number: int) -> None:
        signals.append(number)
        stop.set()

    with told(end):
        try:
            return await work(stop)
        except Stopped:
            raise StopSignal(signals[0]) from None


def _chosen_device(device: str) -> str:
    """The device, `auto` resolved by what this process sees; refused before anything is loaded for it.

    Raises:
        NodeError: it is not here.
    """
    count = torch.cuda.device_count()
    if device == "auto":
        return "cuda:0" if count else "cpu"
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise NodeError(f"device {device} does not exist here: {count} CUDA devices found; use cpu or a lower number")
    return device
