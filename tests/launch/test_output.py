"""The screen never ends a command: what cannot be encoded is replaced, what cannot be written is lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from launch.output import Screen, open_console, print_json, settle


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "a ? b"), ("latin-1", "a ? b"), ("utf-8", "a ● b")])
def test_what_cannot_be_encoded_is_replaced(encoding: str, shown: str) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    screen = Screen(stream)
    assert screen.write("a ● b") == 5
    screen.flush()
    assert written.getvalue().decode(encoding) == shown
    assert screen.encoding == encoding


@pytest.mark.parametrize("stream", [Broken(), open(os.devnull)])  # noqa: SIM115, PTH123 - closed below
def test_what_cannot_be_written_is_lost(stream: io.TextIOBase) -> None:
    stream.close()
    for _ in range(2):
        Screen(stream).write("lost")  # type: ignore[arg-type]
        Screen(stream).flush()  # type: ignore[arg-type]


def test_a_console_draws_where_the_encoding_has_no_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    open_console().print("● ready")
    assert written.getvalue() == b"? ready\n"


def test_what_is_still_buffered_decides_no_exit_code() -> None:
    script = "import sys; from launch.output import settle; sys.stdout.write('x'); settle()"
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": ""}
        assert subprocess.run([sys.executable, "-c", script], stdout=full, env=environment, check=False).returncode == 0


def test_a_stream_without_a_descriptor_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    settle()


def test_json_is_for_programs_and_a_full_disk_is_an_error_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_json([{"name": "Größe"}])
    assert capsys.readouterr().out == '[\n  {\n    "name": "Gr\\u00f6\\u00dfe"\n  }\n]\n'
    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(OSError, match="No space left"):
        print_json({})
