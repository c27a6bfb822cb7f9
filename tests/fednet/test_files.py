"""A file is the old one or the new one, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fednet.errors import DiskFull, UsageError
from fednet.files import (
    LineFile,
    disk_full,
    locked,
    make_folder,
    read_bounded,
    require_writable,
    whole_lines,
    write_whole,
)


def test_it_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    for content in (b"first", b"second, longer", b""):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(*paths: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_written_is_its_owners_alone(tmp_path: Path, umask: int, durable: bool) -> None:
    path, lines = tmp_path / "a" / "b" / "state.bin", tmp_path / "a" / "b" / "lines"
    (leftover := tmp_path / f".state.bin.{os.getpid()}.part").touch(0o666)
    leftover.chmod(0o666)
    for _ in range(2):
        write_whole(path, b"state", durable=durable)
        write_whole(tmp_path / "state.bin", b"state", durable=durable)
        with LineFile(lines, durable=durable) as file:
            file.append("line")
    make_folder(tmp_path / "c" / "d", durable=durable)
    assert modes(path.parents[1], path.parent, tmp_path / "c", tmp_path / "c" / "d") == [0o700] * 4
    assert modes(path, tmp_path / "state.bin", lines) == [0o600] * 3


def test_what_is_shared_is_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    path, lines = tmp_path / "results" / "summary.json", tmp_path / "results" / "lines"
    write_whole(path, b"{}", shared=True)
    with LineFile(lines, shared=True) as file:
        file.append("line")
    assert modes(path, lines, path.parent) == [0o666 & ~umask, 0o666 & ~umask, 0o777 & ~umask]


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"exists|directory"):
            make_folder(path)


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_whole(path, b"old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed to the disk from now on, and renamed, in this order."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append(f"renamed to {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", renamed)
    return done


def test_what_is_durable_is_on_the_disk_with_its_name_and_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = flushed(monkeypatch)
    write_whole(tmp_path / "a" / "b" / "file", b"x", durable=True)
    part = f".file.{os.getpid()}.part"
    assert sorted(done[:2]) == sorted(["a", tmp_path.name])
    assert done[2:] == [part, "renamed to file", "b"]
    done.clear()
    write_whole(tmp_path / "a" / "b" / "file", b"y", durable=True)
    assert done == [part, "renamed to file", "b"]
    done.clear()
    write_whole(tmp_path / "a" / "file", b"y")
    assert done == ["renamed to file"]


def test_a_durable_line_is_on_the_disk_once_it_is_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = flushed(monkeypatch)
    with LineFile(tmp_path / "lines", durable=True) as file:
        assert done == [tmp_path.name]
        file.append("one")
        assert done == [tmp_path.name, "lines"]


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    with pytest.raises(UsageError, match="at most 4 bytes"):
        read_bounded(tmp_path / "x", 4)


@pytest.mark.parametrize("name", ["absent", "", "pipe"])
def test_only_regular_files_are_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="an existing file"):
        read_bounded(tmp_path / name, 5)


@pytest.mark.parametrize("name", ["", "no/such/x.png"])
def test_a_file_to_write_needs_an_existing_folder(tmp_path: Path, name: str) -> None:
    assert require_writable(tmp_path / "x.png", "-o") == tmp_path / "x.png"
    with pytest.raises(UsageError, match=r"-o .*: expected a file in a folder that exists"):
        require_writable(tmp_path / name, "-o")


def test_a_file_of_one_format_is_called_so(tmp_path: Path) -> None:
    assert require_writable(tmp_path / "x.PNG", "-o", ".png") == tmp_path / "x.PNG"
    with pytest.raises(UsageError, match=r"-o .*x\.jpg: expected a \.png file"):
        require_writable(tmp_path / "x.jpg", "-o", ".png")


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    limit = 20
    script = (
        f"import signal; from pathlib import Path; from resource import RLIMIT_FSIZE, setrlimit\n"
        f"from fednet.files import LineFile, disk_full\n"
        f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN); setrlimit(RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"file = LineFile(Path({str(tmp_path / 'lines')!r})); file.append('first, é')\n"
        f"try: file.append('much too long for what is left')\n"
        f"except OSError as error: print(disk_full(error))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"the disk is full, {tmp_path / 'lines'} cannot be written")
    assert (tmp_path / "lines").read_text("utf-8") == "first, é\n"


def raised_from(cause: BaseException) -> BaseException:
    error = RuntimeError("cannot save")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "path"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ""),
        (RuntimeError("Io Error: No space left on device (os error 28)"), ""),
        (raised_from(OSError(errno.ENOSPC, "", "/y")), "/y"),
        (ExceptionGroup("tasks", [ValueError(), OSError(errno.ENOSPC, "", "/z")]), "/z"),
        (DiskFull("/w"), "/w"),
    ],
)
def test_a_full_disk_is_found_behind_an_error(error: BaseException, path: str) -> None:
    found = disk_full(error)
    assert found is not None
    assert found.path == path


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), ValueError("x"), ExceptionGroup("g", [OSError()])])
def test_any_other_error_is_none(error: BaseException) -> None:
    assert disk_full(error) is None


def test_a_file_is_locked_against_whoever_else_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.json"
    probe = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", probe, str(path.with_name("ledger.json.lock"))]
    with locked(path):
        assert b"BlockingIOError" in subprocess.run(command, check=False, capture_output=True).stderr
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"a\n\n", b"a\r\xc2\x85\nb\nc\xc3", b"\n\nd"])
def test_the_part_of_a_last_line_is_removed(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "lines").write_bytes(content)
    lines = whole_lines(path)
    assert b"".join(line + b"\n" for line in lines) == path.read_bytes() == content[: content.rfind(b"\n") + 1]
    assert whole_lines(path) == lines
