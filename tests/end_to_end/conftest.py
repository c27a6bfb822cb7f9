"""fednet as a user runs it: commands in processes of their own, over real sockets, watched without a sleep.

Every command leads a session, as the foreground job of a terminal does, so that Ctrl-C reaches its whole process
group. Its temporary files lie in a short folder of the test (socket paths are bounded), and a mark, in its environment
and as an open file, which all its descendants inherit, finds whoever is left of it. Commands are forks of a warm Python
(`tests/warm.py`) unless a test starts the console script itself, with `cold=True`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from launch.cli import main
from launch.run import events

T = TypeVar("T")

FEDNET = Path(sys.executable).with_name("fednet")
PATIENCE = 100.0
LOOK = 0.02
MARK = "FEDNET_TEST"

TINY = """\
name: tiny
method: score-inference
seed: 3
nodes: 3
devices: {threads: 1}
data: {name: digits, limit: 120}
model: {channels: [8], groups: 4, attention: false}
train: {epochs: 1}
sampler: {kind: euler-maruyama, steps: 6}
samples: {total: 36}
arms:
  mean: {rule: mean}
  mixture: {rule: mixture}
measure: {judge_steps: 2}
evaluate: {agreement: 2}
"""

NOVELTY = """\
name: novel
method: novelty
seed: 3
nodes: 2
devices: {threads: 1}
data: {name: digits, limit: 600}
detector:
  unet: {channels: [8], groups: 4, attention: false}
  train: {steps: 3}
  alone: 3
  score: {reconstructions: 2, steps: 3, false_alarms: 0.2}
flow: {first_epochs: 2, rounds: 2, detector_rounds: 1, tested: 8, pictured: 2, passes: 3}
disclose: {calibrate: {pictures: 4}, evaluate: {}}
"""


class Command:
    """A command that runs, or has run, in a folder.

    Attributes:
        run: the folder of its run, if it is a launch.
    """

    def __init__(self, folder: Path, python: Any, *arguments: str | Path) -> None:
        self.run = Path()
        self.folder, self.mark = folder, secrets.token_hex(8)
        self._out, self._err = folder / f".{self.mark}.out", folder / f".{self.mark}.err"
        self.temporary = Path(tempfile.mkdtemp(prefix="t-", dir=folder))
        environment = {**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "200", MARK: self.mark}
        environment.pop("FEDNET_DEBUG", None)
        self._marked = self.temporary / self.mark
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = python.start(
                [*map(str, arguments)],
                cwd=folder,
                env=environment,
                stdout=out.fileno(),
                stderr=err.fileno(),
                mark=self._marked,
            )

    @property
    def code(self) -> int | None:
        return self.process.returncode

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Waits until a condition is true, and returns its value; the command's end or the deadline is a failure."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            ended = self.process.poll() is not None and not condition()
            assert not ended, f"ended before {what}: {self.process.returncode}\n{self.out}{self.err}"
            assert time.monotonic() < deadline, f"not {what} in time\n{self.out}{self.err}"
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LOOK)
        return found

    def says(self, pattern: str) -> str:
        """Waits for words on standard output or error; returns what the pattern's first group has matched."""
        match = self.until(lambda: re.search(pattern, self.out + self.err), f"it says {pattern!r}")
        assert match is not None
        return match[match.lastindex or 0]

    def ends(self) -> int:
        """Waits for the end; returns the exit code."""
        return self.process.wait(PATIENCE)

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code that follows."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.ends()

    def descendants(self) -> list[psutil.Process]:
        """Everybody who belongs to this command and lives."""
        return [process for process in psutil.process_iter() if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            inherited = process.environ().get(MARK) == self.mark
            return inherited or any(Path(file.path) == self._marked for file in process.open_files())
        except psutil.Error:
            return False

    def happened(self, kind: str, node: str = "") -> list[events.LauncherEvent]:
        """The events of a kind in the run's folder, of one node or of all."""
        found = events.read_events(self.run / "events.jsonl")
        return [event for event in found if event.kind == kind and node in {"", event.node}]

    def works_on(self, phase: str) -> bool:
        """Whether somebody has told that he works on something."""
        return any(event.data["phase"] == phase for event in self.happened("progress"))

    def kill_node(self, node: str) -> None:
        """SIGKILL to the process of a node."""
        (event,) = self.happened("started", node)
        os.kill(event.data["pid"], signal.SIGKILL)

    def leaves_nobody(self) -> None:
        """Waits until nobody is left of the command; somebody who stays is a failure."""
        deadline = time.monotonic() + PATIENCE / 5
        while left := self.descendants():
            assert time.monotonic() < deadline, f"still there: {[process.cmdline() for process in left]}"
            psutil.wait_procs(left, timeout=LOOK)

    def leaves_no_socket(self) -> None:
        """No socket file and no folder of sockets is left in the command's temporary folder."""
        assert not [path for path in self.temporary.rglob("*") if path.is_socket()]
        assert not list(self.temporary.glob("fednet-*"))

    def kill(self) -> None:
        """Ends the command and all that belongs to it, for tests that have failed on the way."""
        for process in self.descendants():
            with suppress(psutil.Error):
                process.kill()
        self.process.kill()
        self.process.wait()


class ColdPython:
    """Starts commands as the console script, in a Python that has imported nothing."""

    def start(self, arguments: list[str], *, mark: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Starts `fednet ARGUMENTS`; the mark in its environment will do."""
        return subprocess.Popen([FEDNET, *arguments], stdin=subprocess.DEVNULL, start_new_session=True, **options)


@dataclass(frozen=True)
class Call:
    """A command that was run within the process of the tests.

    Attributes:
        code: its exit code.
        out: what it wrote on standard output.
        err: what it wrote on standard error.
    """

    code: int
    out: str
    err: str


class Terminal:
    """A folder in which commands are run, with `tiny.yaml` and `novel.yaml` in it."""

    def __init__(self, folder: Path, warm: Any) -> None:
        self.folder, self._warm = folder, warm
        self.commands: list[Command] = []
        (folder / "tiny.yaml").write_text(TINY)
        (folder / "novel.yaml").write_text(NOVELTY)

    def start(self, *arguments: str | Path, cold: bool = False) -> Command:
        """Starts `fednet ARGUMENTS`; `cold` in a fresh Python."""
        self.commands.append(Command(self.folder, ColdPython() if cold else self._warm, *arguments))
        return self.commands[-1]

    def launch(self, out: str, *settings: str, options: tuple[str, ...] = (), cold: bool = False) -> Command:
        """Starts `fednet launch tiny.yaml --out OUT --set SETTING...`; `cold` in a fresh Python."""
        given = [part for setting in settings for part in ("--set", setting)]
        command = self.start("launch", "tiny.yaml", "--out", out, *given, *options, cold=cold)
        command.run = self.folder / out / "tiny"
        return command

    def serve(self, out: str, *settings: str) -> tuple[Command, str]:
        """Starts `fednet launch novel.yaml --serve`, whose guest has done its job; with an address to join through."""
        given = [part for setting in settings for part in ("--set", setting)]
        launched = self.start("launch", "novel.yaml", "--out", out, "--serve", *given)
        launched.run = self.folder / out / "novel"
        address = launched.says(r"join through (\S+)")
        launched.says(r"report: \S+")
        return launched, address

    def call(self, *arguments: str | Path) -> Call:
        """Runs `fednet ARGUMENTS` within this process: for commands of which a process of their own shows no more."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "argv", ["fednet", *map(str, arguments)])
            patched.delenv("FEDNET_DEBUG", raising=False)
            patched.chdir(self.folder)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = main()
                except SystemExit as end:
                    code = int(end.code or 0)
        return Call(code, out.getvalue(), err.getvalue())

    def run(self, *arguments: str | Path) -> Command:
        """Runs `fednet ARGUMENTS` to its end, in a process of its own."""
        command = self.start(*arguments)
        command.ends()
        return command


@pytest.fixture(scope="module")
def terminal(warm_python: Any) -> Iterator[Terminal]:
    """A terminal in a short folder of its own; at the end of the module nothing that was started in it lives."""
    with tempfile.TemporaryDirectory(prefix="e2e-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        opened = Terminal(Path(folder), warm_python)
        yield opened
        for command in opened.commands:
            command.kill()
