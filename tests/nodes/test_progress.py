"""Saying how far a computation is: on the bus and in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from nodes.progress import progress_publisher
from protocol.messages import ProgressReport
from protocol.topics import PROGRESS


class Node:
    """Remembers what is published."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def publish(self, topic: str, message: Any) -> None:
        self.said.append((topic, message))


@pytest.mark.parametrize(("note", "expected"), [(str, ""), (lambda: "a1 a2 · lost a3", "a1 a2 · lost a3")])
def test_it_publishes_and_logs(note: Callable[[], str], expected: str, caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    with caplog.at_level(logging.INFO):
        progress_publisher(node, note)("training", 3, 10, {"loss": 0.123456})  # type: ignore[arg-type]
    assert node.said == [
        (PROGRESS, ProgressReport(phase="training", done=3, total=10, values={"loss": 0.123456}, note=expected))
    ]
    assert "training 3/10 loss=0.1235" in caplog.text


def test_a_long_remark_is_cut() -> None:
    node = Node()
    progress_publisher(node, lambda: "x" * 1000)("training", 0, 0, {})  # type: ignore[arg-type]
    assert len(node.said[0][1].note) == 200
