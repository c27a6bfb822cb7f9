"""An unforeseen error is its sender's fault, once with a traceback; what is wrong with the node itself passes."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from fednet.errors import DiskFull, MethodError
from nodes.errors import NoQuorum
from nodes.fault_boundary import MAX_TRACEBACKS, OWN_ERRORS, FaultBoundary
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.memory import MemoryNetwork


class Faults:
    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []
        self.boundary = FaultBoundary(lambda *found: self.found.append(found))


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), AssertionError(), MemoryError(), UnicodeError()])
def test_any_error_is_a_fault_of_the_sender(error: Exception) -> None:
    faults = Faults()
    with faults.boundary.around("eve", "prepare"):
        raise error
    assert faults.found == [("eve", "failed", f"prepare from eve led to {type(error).__name__}")]


@pytest.mark.parametrize(
    "error", [MethodError("no model"), NoQuorum((), 1, {}), OSError("disk"), DiskFull(), asyncio.CancelledError()]
)
def test_what_is_wrong_with_this_node_passes(error: BaseException) -> None:
    faults = Faults()
    with pytest.raises(type(error)), faults.boundary.around("eve", "a round", passing=OWN_ERRORS):
        raise error
    assert not faults.found


def test_a_traceback_is_logged_once_of_each_kind_and_of_a_bounded_number(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    for number in range(2 * MAX_TRACEBACKS):
        for _ in range(3):
            with faults.boundary.around("eve", f"kind {number}"):
                raise KeyError
    assert len([each for each in caplog.records if each.exc_info]) == MAX_TRACEBACKS
    assert len(faults.found) == 6 * MAX_TRACEBACKS


class TestWork:
    def node(self) -> Node:
        return Node(NodeSpec("a", "client", "test", "memory://a"), MemoryNetwork().bus())

    async def test_work_that_a_message_began_does_not_end_the_node(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)

        async def fails() -> None:
            raise ZeroDivisionError

        async with asyncio.timeout(10), self.node() as node:
            await node.spawn_for("eve", fails, "round")
            assert (node.faults, node.counts["failed"]) == ({"eve": 1}, 1)
            assert "round from eve" in caplog.text

    async def test_what_is_wrong_with_the_node_ends_it(self) -> None:
        async def fails() -> None:
            raise MethodError("no such model")

        async def lives() -> None:
            async with asyncio.timeout(10), self.node() as node:
                node.spawn_for("eve", fails, "round")
                await asyncio.Event().wait()

        with pytest.raises(BaseExceptionGroup) as ended:
            await lives()
        assert ended.group_contains(MethodError, match="no such model")

    async def test_work_that_never_begins_is_no_warning(self, recwarn: pytest.WarningsRecorder) -> None:
        async def begins() -> None:
            await asyncio.Event().wait()

        async with self.node() as node:
            pass
        late = node.spawn_for("eve", begins, "round")
        await asyncio.wait([late])
        gc.collect()
        assert late.cancelled()
        assert not [str(each.message) for each in recwarn if "never awaited" in str(each.message)]
