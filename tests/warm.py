"""A warm Python: it has imported what commands need, and every command is a fork of it.

Importing torch, diffusers and what methods need takes a dozen seconds of CPU, which each command would pay anew, and
the fork server of each launch; that is most of what a test of a whole run costs. `WarmPython` starts one process that
imports once, computes nothing and opens nothing (as the launch's own fork server does), and forks at each `start` a
process that becomes the command: a session of its own with the given arguments, folder, environment and streams, which
does what the console script does, or `python -m MODULE`. Where a launch would start a Python for its fork server, it
forks as well. Everything after that is the command's own: processes, sockets, signals, exit codes. The workers of
pytest-xdist share one warm Python, which is started by the first that needs it, and ends with the last.

For what is told which Python to start (a batch script, a host behind ssh), `WarmPython.executable` is a program that
stands for one; `warm_start.py` is what it runs.

What only a fresh interpreter shows (what is imported and when, a signal meanwhile, variables that libraries read when
they are imported) needs a fresh one. Knows no method and no test. Run as a script, this module is the process that
forks.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any, NoReturn

MODULES = ("launch.commands.app", "launch.run.session", "launch.run.node", "launch.report.html")
"""What commands import, beside what nodes and methods have preloaded."""
COLD = ("cmtii",)
"""Methods whose libraries are not imported: most tests have no use for them."""
OUTSIDE = "launch.run.folder_end"
"""What acts when it is imported; a fork server imports it anew."""
LIMIT = 2**20
MARK = 240
"""The descriptor of a file that tells whose a process is; forks inherit it, and nothing closes it."""

_fresh_python = util.spawnv_passfds


class WarmPython:
    """Starts commands as forks of one warm process, which is shared with others and ends with the last of them.

    A context manager.

    Args:
        note: a file, in a folder that those who share the process have in common, in which its address is kept.
    """

    def __init__(self, note: Path) -> None:
        self._note = note
        self._channel: socket.socket | None = None

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: int,
        stderr: int,
        mark: Path | None = None,
        module: str | None = None,
    ) -> Forked:
        """Starts `fednet ARGUMENTS`; the first one waits until everything is imported.

        Args:
            arguments: without the program.
            cwd: its folder.
            env: its environment.
            stdout: the descriptor for its output.
            stderr: the descriptor for its errors.
            mark: a file that the command and whoever it forks hold open.
            module: starts `python -m MODULE ARGUMENTS` instead.
        """
        order = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "module": module}
        order["mark"] = str(mark) if mark else None
        status, told = os.pipe()
        with open(os.devnull) as nothing:  # noqa: PTH123
            socket.send_fds(self._connected(), [json.dumps(order).encode()], [nothing.fileno(), stdout, stderr, told])
        os.close(told)
        return Forked(status)

    def executable(self, folder: Path) -> Path:
        """A program that stands for this Python: its `-m launch ...` is a fork, anything else is this Python itself."""
        path = folder / "warm-python"
        command = [sys.executable, "-IS", str(Path(__file__).with_name("warm_start.py"))]
        path.write_text(
            f'#!/bin/sh\nexec {shlex.join([*command, self._connected().getpeername(), sys.executable])} "$@"\n'
        )
        path.chmod(0o755)
        return path

    def _connected(self) -> socket.socket:
        """The channel to the process; starts it where nobody has, or where it has ended with those who had."""
        if self._channel is None:
            self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with self._note.open("a+") as note:
                fcntl.flock(note, fcntl.LOCK_EX)
                note.seek(0)
                try:
                    self._channel.connect(note.read())
                except OSError:
                    note.truncate(0)
                    note.write(_start())
                    note.seek(0)
                    self._channel.connect(note.read())
        return self._channel

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._channel is not None:
            self._channel.close()


def _start() -> str:
    """Starts the process; returns the address at which it serves, before it is warm."""
    address = str(Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp")) / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        listener.set_inheritable(True)
        os.posix_spawn(sys.executable, [sys.executable, __file__, str(listener.fileno())], os.environ)
    return address


class Forked:
    """A command that was forked; has what the tests use of `subprocess.Popen`.

    Args:
        status: a pipe that tells the process's number, and later what it has exited with.
    """

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self.returncode: int | None = None
        self.pid = int(self._line())

    def poll(self) -> int | None:
        """The exit code; None while it lives."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._line())
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; returns the exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended.
        """
        if self.returncode is None:
            select.select([self._status], [], [], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("fednet", timeout or 0.0)
        return code

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _line(self) -> bytes:
        line = self._status.readline()
        if not line:
            raise RuntimeError("the warm Python has ended: see its errors above")
        return line


def serve(listener: socket.socket) -> NoReturn:
    """Imports everything, then forks for each order that comes, until all who were connected have gone."""
    sys.path[0] = str(Path(sys.executable).parent)  # as a console script has it
    gc.disable()
    for module in (*MODULES, *_preloaded()):
        import_module(module)
    gc.freeze()  # what is imported is never garbage: a collection would copy all its pages
    gc.enable()
    util.spawnv_passfds = _fork_python  # type: ignore[assignment]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch
    channels = [listener.accept()[0]]
    while channels:
        ready, *_ = select.select([listener, *channels], [], [])
        for each in ready:
            if each is listener:
                channels.append(listener.accept()[0])
            elif not _obey(each):
                channels.remove(each)
                each.close()
        if not channels:
            channels = _last(listener)
    os._exit(0)  # sooner than modules are torn down


def _obey(channel: socket.socket) -> bool:
    """Forks for an order; whether there was one, and not the channel's end."""
    content, descriptors, *_ = socket.recv_fds(channel, LIMIT, 4)
    if not content:
        return False
    if os.fork() == 0:
        _watch(json.loads(content), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return True


def _last(listener: socket.socket) -> list[socket.socket]:
    """Ends the address, once; returns the channels of those who have connected meanwhile."""
    address = Path(listener.getsockname())
    with suppress(OSError):
        address.unlink()
        address.parent.rmdir()
    channels = []
    while select.select([listener], [], [], 0)[0]:
        channels.append(listener.accept()[0])
    return channels


def _preloaded() -> list[str]:
    methods = [point.load() for point in entry_points(group="fednet.methods") if point.name not in COLD]
    return [*import_module("launch.run.fork_server").PRELOAD, *(name for method in methods for name in method.preload)]


def _watch(order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Forks the command, tells its number and its end, and kills it where nobody is left who would hear of that."""
    *streams, told = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        _leave(lambda: _become(order, streams))
    for stream in streams:
        os.close(stream)
    waiting = select.poll()
    waiting.register(os.pidfd_open(process), select.POLLIN)
    waiting.register(told, 0)  # which becomes ready with an error
    with suppress(BrokenPipeError):
        os.write(told, b"%d\n" % process)
    if told in dict(waiting.poll()):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with suppress(BrokenPipeError):
        os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(order: dict[str, Any], streams: list[int]) -> object:
    """Is the command from here on; returns what it exits with."""
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    tempfile.tempdir = None
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    if order["mark"]:
        os.dup2(os.open(order["mark"], os.O_CREAT | os.O_RDONLY), MARK)
    _close_all_but([])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - descriptors of the process
    encoding = os.environ.get("PYTHONIOENCODING")
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = [str(Path(sys.executable).with_name("fednet")), *order["arguments"]]
    if order["module"]:
        sys.path[0] = order["cwd"]
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        return 0
    from launch.cli import main

    return main()


def _fork_python(path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]) -> int:
    """In place of `multiprocessing.util.spawnv_passfds`: a fork server is forked, anything else gets a fresh Python.

    A launch starts its fork server before it has threads or has computed anything.
    """
    code = str(arguments[-1])
    if "multiprocessing.forkserver" not in code:
        return _fresh_python(path, arguments, descriptors)
    process = os.fork()
    if process == 0:
        _leave(lambda: _become_python(code, descriptors))
    return process


def _become_python(code: str, descriptors: Sequence[int]) -> None:
    """Is what `python -c CODE` would be, with what is imported already."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _close_all_but(descriptors)
    atexit._clear()
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    forkserver._forkserver.__init__()  # type: ignore[misc]  # its lock is held
    resource_tracker._resource_tracker.__init__()  # type: ignore[misc]
    sys.modules.pop(OUTSIDE, None)
    sys.argv = ["-c"]
    exec(code, {"__name__": "__main__"})  # noqa: S102 - what the launch would have had executed


def _close_all_but(descriptors: Sequence[int]) -> None:
    kept = sorted({0, 1, 2, MARK, *descriptors})
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)


def _leave(work: Callable[[], object]) -> NoReturn:
    """Does work and ends the process as an interpreter ends, without returning to what was forked."""
    code: object = 1
    try:
        code = work()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
