"""A node that an engine has placed: `fednet node --spec`, the same process on every engine.

With `-` the node file is the first line of standard input, and the rest of it is a lifeline: the line `stop` asks the
node to end as SIGTERM does, and the end of the input, which is that of whoever has started it, kills it. So nobody is
left behind a launcher that was killed or a connection that broke. Knows no engine.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from fednet.methods import registry
from launch.engines.node_file import MAX_BYTES, NodeFile, parse_node_file, read_node_file
from launch.errors import EXIT_OK
from launch.output import settle
from launch.run.fork_server import PRELOAD

STOP = b"stop\n"
"""The line that asks a node to end."""

_LINE_BYTES = 64


def run_placed(source: str, listen: str | None = None) -> NoReturn:
    """Runs the node of a node file to its end.

    Args:
        source: the file; `-` for standard input.
        listen: the address that it binds, where only its machine knows it.

    Raises:
        ConfigError: it is no node file, or holds what cannot be used.
        NodeError: it cannot listen, its seed or too few peers are there.
        MethodError: what it should compute cannot be computed.
        StopSignal: a guest was asked to stop.
    """
    file = _from_input() if source == "-" else read_node_file(Path(source))
    spec = file.node()
    if listen is not None:
        spec = replace(spec, listen=listen)
    _preload(spec.method)
    from nodes.run import run  # noqa: PLC0415 - imports torch, once CUDA_VISIBLE_DEVICES is set

    run(file.joined(spec))
    if spec.role == "guest":
        from launch.report import html  # noqa: PLC0415 - clients need not wait for it

        html.write_report(spec.folder)
    leave(EXIT_OK)


def _preload(method: str) -> None:
    """Imports what the fork server of a launch has imported: later it would hold up heartbeats, for seconds."""
    for module in (*PRELOAD, *(registry.find(method).preload if method else ())):
        import_module(module)


def leave(code: int) -> NoReturn:
    """Ends this process at once, as a forked node does: taking torch's modules apart takes seconds for nothing."""
    logging.shutdown()
    settle()
    os._exit(code)


def _from_input() -> NodeFile:
    # No buffer: the thread that waits would hold its lock when the process ends.
    stream = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor of the process
    line = stream.readline(MAX_BYTES + 2)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for the main thread
    threading.Thread(target=_hold, args=(stream,), name="lifeline", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return parse_node_file(line, "standard input")


def _hold(stream: io.FileIO) -> None:
    """Follows what the other end of the lifeline says, until it is gone."""
    while line := stream.readline(_LINE_BYTES):
        if line == STOP:
            os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGKILL)
