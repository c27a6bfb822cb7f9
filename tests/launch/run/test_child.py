"""A node's process: its target and its last message. How it lives and dies is tested with the supervisor."""

from __future__ import annotations

from json import dumps
from typing import Any

import pytest

from launch.engines.local import NODE_TARGET
from launch.run.child import EXIT_MESSAGE_PREFIX, exit_message, resolve
from nodes.run import run


def test_targets_are_resolved_by_name() -> None:
    assert resolve("json:dumps") is dumps
    assert resolve(NODE_TARGET) is run


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("starting\n" + EXIT_MESSAGE_PREFIX + "no data at x\n", "no data at x"),
        ("starting\n" + EXIT_MESSAGE_PREFIX + "two\nlines\n", "two\nlines"),
        (EXIT_MESSAGE_PREFIX + "an earlier one\n" + EXIT_MESSAGE_PREFIX + "the last\n", "the last"),
        ("".join(f"line {number}\n" for number in range(20)), "\n".join(f"line {number}" for number in range(12, 20))),
        ("", ""),
        ("x" * 100_000 + "\n" + EXIT_MESSAGE_PREFIX + "after much\n", "after much"),
    ],
)
def test_the_last_words_are_the_error_or_the_end_of_the_log(tmp_path: Any, log: Any, message: Any) -> None:
    (tmp_path / "a1.log").write_text(log)
    assert exit_message(tmp_path / "a1.log") == message


def test_who_never_spoke_has_no_last_words(tmp_path: Any) -> None:
    assert exit_message(tmp_path / "a1.log") == ""


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Any) -> None:
    (tmp_path / "a1.log").write_bytes(b"\xff\xfe end\n")
    assert exit_message(tmp_path / "a1.log").endswith("end")
