"""`python -m launch ARGUMENTS` as a fork of a warm Python (`warm.py`), for what is told which Python to start.

Run as `warm_start.py SOCKET PYTHON ARGUMENTS...`: streams, environment, folder, signals and exit code are the fork's,
and when this process is killed, so is the fork. With other arguments than `-m launch ...` it becomes PYTHON itself.
Imports little, since it is what remains of a start's cost.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(address: str, arguments: list[str]) -> int:
    """Has the warm Python at an address fork `python -m launch ARGUMENTS`; returns its exit code when it has ended."""
    order = {"arguments": arguments, "cwd": str(Path.cwd()), "env": dict(os.environ), "module": "launch", "mark": None}
    status, told = os.pipe()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel,
        os.fdopen(status, "rb", buffering=0) as told_by,
    ):
        channel.connect(address)
        socket.send_fds(channel, [json.dumps(order).encode()], [0, 1, 2, told])
        os.close(told)
        process = int(told_by.readline())
        for number in PASSED_ON:
            signal.signal(number, lambda received, _: os.kill(process, received))
        return int(told_by.readline())


def main(address: str, python: str, *arguments: str) -> int:
    """Exits as the fork has: with its code, or by its signal."""
    if arguments[:2] != ("-m", "launch"):
        os.execv(python, [python, *arguments])  # noqa: S606 - a Python
    code = start(address, list(arguments[2:]))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
