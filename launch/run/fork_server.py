"""A server that has imported what nodes need and forks them, so that ten nodes do not import torch ten times.

It imports and does nothing else: a fork after a torch operation, a CUDA call or a ZeroMQ context hangs or worse. It
ends by itself after the launcher, however that ends.
"""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import psutil

from launch.run import child
from launch.run.child import STOPPING
from nodes.spec import NodeSpec

PRELOAD = (
    "launch.cli",
    "launch.run.child",
    "nodes.run",
)
"""What every node imports; the launch adds its method."""


def start_fork_server(preload: tuple[str, ...] = PRELOAD) -> ForkServerContext:
    """Starts the server, unless it runs already, and returns at once; the first fork waits until it is warm.

    What ends the launcher's whole process group (Ctrl-C, a closed terminal) is blocked in it from the first instruction
    on, since it must outlive the nodes to tell how they end; a node unblocks it and gets what it was sent meanwhile.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # otherwise the server's start starts it, which unblocks signals
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


def stop_fork_server() -> None:
    """Ends the server at once; it would end by itself, but takes a second for it, with all that it has imported.

    Its zombie is left to `multiprocessing`, which wants to see it should another server be started.
    """
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if any("multiprocessing.forkserver" in argument for argument in process.cmdline()):
                process.kill()


def node_process(
    context: ForkServerContext, target: str, spec: NodeSpec, log: Path, litter: Path | None
) -> ForkServerProcess:
    """A node's process, not yet started; its `start` blocks while the server warms up."""
    return context.Process(target=child.main, args=(target, spec, log, litter), name=spec.name)
