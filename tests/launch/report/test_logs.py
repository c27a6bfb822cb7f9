"""Logs of several nodes as one stream."""

from __future__ import annotations

from pathlib import Path

from launch.report.logs import LogTail


def test_lines_come_in_the_order_of_time_and_stay_with_the_one_that_they_belong_to(tmp_path: Path) -> None:
    (tmp_path / "a1.log").write_text("2026-01-01 10:00:01,000 one\n  of one\n2026-01-01 10:00:03,000 three\n")
    (tmp_path / "a2.log").write_text("2026-01-01 10:00:02,000 two\n")
    read = LogTail(tmp_path).read()
    assert [(node, line[-6:].strip()) for node, line in read] == [
        ("a1", "00 one"), ("a1", "of one"), ("a2", "00 two"), ("a1", "three"),
    ]  # fmt: skip


def test_only_what_is_new_is_read_and_a_line_is_whole_or_not_there(tmp_path: Path) -> None:
    tail = LogTail(tmp_path)
    assert tail.read() == []
    log = tmp_path / "a1.log"
    log.write_text("one\ntw")
    assert tail.read() == [("a1", "one")]
    log.write_text("one\ntwo\nthr")
    assert tail.read() == [("a1", "two")]
    assert tail.read(last=True) == [("a1", "thr")]
    assert tail.read(last=True) == []


def test_one_node_alone(tmp_path: Path) -> None:
    (tmp_path / "a1.log").write_text("one\n")
    (tmp_path / "a2.log").write_bytes(b"\xfftwo\n")
    assert LogTail(tmp_path, "a2").read() == [("a2", "\ufffdtwo")]
    assert LogTail(tmp_path, "a2").names() == ["a1", "a2"]
