"""The lock of a run's folder: one holder, who is named, and none once its process is gone, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from launch.run.lock import LOCK, LockHolder, lock_holder, take_lock

HOLDS = """
import sys, time
from pathlib import Path
from launch.run.lock import take_lock
take_lock(Path(sys.argv[1]))
print(".", flush=True)
time.sleep(60)
"""


def test_a_folder_has_one_holder_at_a_time(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    held = take_lock(tmp_path)
    with pytest.raises(BlockingIOError):
        take_lock(tmp_path)
    assert lock_holder(tmp_path) == LockHolder.here()
    os.close(held)
    assert lock_holder(tmp_path) is None
    os.close(take_lock(tmp_path))


def test_looking_does_not_release_the_lock(tmp_path: Path) -> None:
    """As it would with a lock that belongs to the process (POSIX) rather than to what it has opened."""
    held = take_lock(tmp_path)
    assert [lock_holder(tmp_path) is not None for _ in range(2)] == [True, True]
    os.close(held)


def test_the_lock_of_a_killed_process_is_none(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.process) == (process.pid, psutil.Process(process.pid))
        assert holder.handles_signals
        process.send_signal(signal.SIGKILL)
    assert lock_holder(tmp_path) is None


def test_a_launch_within_a_program_is_not_ended_by_signals(tmp_path: Path) -> None:
    found = []

    def launch() -> None:
        held = take_lock(tmp_path)
        found.append(lock_holder(tmp_path))
        os.close(held)

    thread = threading.Thread(target=launch)
    thread.start()
    thread.join()
    assert [holder.handles_signals for holder in found if holder] == [False]


def test_a_process_of_another_machine_or_another_time_is_none_of_ours(tmp_path: Path) -> None:
    here = LockHolder.here()
    assert here.process == psutil.Process()
    assert LockHolder(here.pid, "elsewhere", here.created).process is None
    assert LockHolder(here.pid, here.host, here.created - 5.0).process is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"unknown": 1}'])
def test_a_holder_that_has_not_said_who_it_is_is_held_all_the_same(tmp_path: Path, content: bytes) -> None:
    held = take_lock(tmp_path)
    (tmp_path / LOCK).write_bytes(content)
    assert lock_holder(tmp_path) == LockHolder()
    os.close(held)
