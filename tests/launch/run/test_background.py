"""A command that forks: who waits ends when the other has a folder, or with its code; the other has its own session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = """
import os, sys
from pathlib import Path
from launch.run.background import go_on_in_background
folder = Path(sys.argv[1])
print("before")
leave = go_on_in_background()
print("still on the terminal")
"""
GOES_ON = """
leave(folder)
print(os.getpid() == os.getsid(0), sys.stdin.read() == "", flush=True)
print("to the file", file=sys.stderr)

"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START + code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_terminal_is_left_once_there_is_a_folder(tmp_path: Path) -> None:
    done = run(tmp_path, GOES_ON)  # returns once nobody holds its output any more
    assert (done.returncode, done.stdout) == (0, "before\nstill on the terminal\n"), done.stderr
    assert "to the file" not in done.stderr


def test_helpers_that_have_inherited_the_output_do_not_hold_the_terminal(tmp_path: Path) -> None:
    """The fork server is started before there is a folder: a pipe, or ssh, would wait for it until the run is over."""
    os.mkfifo(tmp_path / "wait")
    helper = "import subprocess\nsubprocess.Popen(['cat', str(folder / 'wait')], close_fds=False)\n"
    done = run(tmp_path, helper + GOES_ON)  # while the helper lives
    (tmp_path / "wait").write_text("")  # it reads, and ends
    assert (done.returncode, done.stdout) == (0, "before\nstill on the terminal\n"), done.stderr


def test_what_cannot_go_on_is_shown_in_whole_and_in_its_stream(tmp_path: Path) -> None:
    done = run(tmp_path, "print('x' * 200_000)\nsys.exit('no folder')\n")
    assert (done.returncode, done.stderr) == (1, "no folder\n")
    assert done.stdout == f"before\nstill on the terminal\n{'x' * 200_000}\n"


def test_what_goes_on_leads_a_session_and_writes_into_the_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "wait")
    run(tmp_path, GOES_ON + "(folder / 'wait').write_text('')\n")
    (tmp_path / "wait").read_text()  # it is at its end
    assert (tmp_path / "screen.log").read_text() == "True True\nto the file\n"


@pytest.mark.parametrize(("code", "expected"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 137), ("", 0)])
def test_who_has_no_folder_gives_its_code_to_the_command(tmp_path: Path, code: str, expected: int) -> None:
    assert run(tmp_path, code).returncode == expected


def test_who_is_interrupted_while_it_waits_ends_the_other(tmp_path: Path) -> None:
    code = START + "sys.stdout.flush()\nimport signal\nsignal.pause()\n"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["before\n", "still on the terminal\n"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)  # returns once both have closed their output
    assert process.returncode != 0
