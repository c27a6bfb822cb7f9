"""A server that has imported what nodes need and forks them, so that ten nodes do not import torch ten times.

It imports and does nothing else: a fork after a torch operation, a CUDA call or a ZeroMQ context hangs or worse. It
ends by itself after the launcher, however that ends, and takes the launcher's temporary folder along (where a program
had a fork server of its own already, that is the program's to do).
"""

from __future__ import annotations

import io
import os
import signal
import threading
from contextlib import suppress
from multiprocessing import forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.context import ForkServerProcess, set_spawning_popen
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from launch.run import child
from launch.run.folder_end import TEMPORARY
from nodes.signals import STOPPING

PRELOAD = (
    "launch.run.child",
    "nodes.run",
    "torch._dynamo",  # the first optimiser of a process imports it, for two seconds or more
)
"""What every node imports; the launch adds its method."""

_lock = threading.Lock()
_launches = 0
_ours = False  # a program may have a fork server already: then it is used, and left alone
_killed: list[int] = []  # servers that may not be dead yet: the next one would be taken to run already


def start_fork_server(preload: tuple[str, ...] = PRELOAD) -> None:
    """Starts the server, unless it runs already, and returns at once; the first fork waits until it is warm.

    Every start is followed by one `stop_fork_server`. Launches of one process share the server; a later one's modules
    are then imported by its nodes.

    What ends the launcher's whole process group (Ctrl-C, a closed terminal) is blocked in it from the first instruction
    on, since it must outlive the nodes to tell how they end; a node unblocks it and gets what it was sent meanwhile.
    """
    global _launches, _ours  # noqa: PLW0603 - a process has one server
    with _lock:
        while _killed:
            with suppress(ChildProcessError):  # reaped
                os.waitid(os.P_PID, _killed.pop(), os.WEXITED | os.WNOWAIT)
        _launches += 1
        _ours = _ours or not _servers()
        forkserver.set_forkserver_preload(["launch.run.folder_end", *preload])
        resource_tracker.ensure_running()  # otherwise the server's start starts it, which unblocks signals
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        os.environ[TEMPORARY] = str(temporary_folder())
        try:
            forkserver.ensure_running()
        finally:
            del os.environ[TEMPORARY]
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def temporary_folder() -> Path:
    """This process's folder for sockets; nothing of it is left, not even when the process is killed."""
    return Path(util.get_temp_dir())


def stop_fork_server() -> None:
    """Ends the server at once with the last launch; it would end by itself, but takes a second for it.

    Its zombie is left to `multiprocessing`, which reaps it when another server is started.
    """
    global _launches, _ours  # noqa: PLW0603 - a process has one server
    with _lock:
        _launches = max(0, _launches - 1)
        if _ours and not _launches:
            _ours = False
            for process in _servers():
                process.kill()
                _killed.append(process.pid)


def _servers() -> list[psutil.Process]:
    servers = []
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if any("multiprocessing.forkserver" in argument for argument in process.cmdline()):
                servers.append(process)
    return servers


def node_process(target: str, node_file: Path, log: Path) -> ForkServerProcess:
    """A node's process, not yet started; its `start` blocks while the server warms up."""
    return _NodeProcess(target=child.main, args=(target, node_file, log), name=node_file.stem)


class _Popen(popen_forkserver.Popen):
    """Starts a process that does not import the launcher's main module.

    A script may then launch without `if __name__ == "__main__":`. Otherwise the same as CPython's.
    """

    def _launch(self, process: BaseProcess) -> None:
        data = spawn.get_preparation_data(process.name)
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump({key: data[key] for key in data if not key.startswith("init_main_")}, buffer)
            reduction.dump(process, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, pipe = forkserver.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        lifeline = os.dup(pipe)  # the child waits for its end, see `launch.run.child`
        self.finalizer = util.Finalize(self, _close, (lifeline, self.sentinel))
        with open(pipe, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _NodeProcess(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:  # noqa: N802 - the name is multiprocessing's
        return _Popen(process_obj)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
