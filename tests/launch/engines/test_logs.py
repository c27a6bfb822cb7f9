"""What a node elsewhere writes comes here line by line, whatever the pieces."""

from __future__ import annotations

from pathlib import Path

from launch.engines.logs import MAX_LINE_BYTES, NodeLog
from launch.run.child import exit_message


def test_pieces_become_lines(tmp_path: Path) -> None:
    log = NodeLog(tmp_path / "logs" / "a1.log")
    for piece in (b"one\ntw", b"o\n", b"three"):
        log.feed(piece)
    assert (tmp_path / "logs" / "a1.log").read_text() == "one\ntwo\n"
    log.end()
    assert (tmp_path / "logs" / "a1.log").read_text() == "one\ntwo\nthree\n"


def test_why_it_ended_is_its_last_message_where_it_did_not_say_so(tmp_path: Path) -> None:
    log = NodeLog(tmp_path / "a1.log")
    log.feed(b"works\n")
    log.end("the connection was lost")
    assert exit_message(tmp_path / "a1.log") == "the connection was lost"


def test_a_second_life_goes_on_below(tmp_path: Path) -> None:
    for life in (b"first\n", b"second\n"):
        log = NodeLog(tmp_path / "a1.log")
        log.feed(life)
        log.end()
    assert (tmp_path / "a1.log").read_text() == "first\nsecond\n"


def test_a_line_without_end_and_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = NodeLog(tmp_path / "a1.log")
    log.feed(b"x" * (3 * MAX_LINE_BYTES))
    log.feed(b"\xff\n")
    log.end()
    assert max(map(len, (tmp_path / "a1.log").read_text().splitlines())) <= MAX_LINE_BYTES + 1
