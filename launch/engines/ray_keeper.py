"""The actor of the engine `ray`: it keeps one node as its child, on a lifeline.

A node within the actor's own process could not block and answer, and Ray owns SIGTERM there. The child's standard input
ends with this process, however that ends, and the node with it. Knows no configuration; Ray starts it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import ray

from launch.engines.node_file import CUDA_VISIBLE
from launch.run.placed import STOP

CHUNK = 1 << 16


class NodeKeeper:
    """Keeps one node; its calls may overlap, since one waits for output."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        """The number of this machine in the cluster."""
        return str(ray.util.get_node_ip_address())

    def start(self, node_file: str) -> dict[str, Any]:
        """Starts the node; returns where it is and what it sees."""
        command = [sys.executable, "-m", "launch", "node", "--spec", "-"]
        self._child = subprocess.Popen(  # noqa: S603 - this Python and this package
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._say(f"{node_file}\n".encode())
        return {"pid": self._child.pid, "host": platform.node(), "gpus": os.environ.get(CUDA_VISIBLE, "")}

    def read(self) -> bytes:
        """What it has written since the last call; waits for more, and returns nothing at its end."""
        if self._child is None or self._child.stdout is None:
            return b""
        return os.read(self._child.stdout.fileno(), CHUNK)

    def wait(self) -> int:
        """Waits for its end; its exit code, or minus the signal."""
        assert self._child is not None  # noqa: S101 - it was started
        return self._child.wait()

    def stop(self) -> None:
        """Has the node end: says so on its lifeline."""
        if self._child is not None:
            self._say(STOP)

    def _say(self, text: bytes) -> None:
        assert self._child is not None  # noqa: S101 - it was started
        assert self._child.stdin is not None  # noqa: S101 - a pipe
        try:
            self._child.stdin.write(text)
            self._child.stdin.flush()
        except BrokenPipeError:
            return  # it has ended, which `wait` tells
