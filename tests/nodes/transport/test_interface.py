"""Both transports are one interface: what runs over one runs over the other."""

from __future__ import annotations

import inspect

import pytest

from nodes.transport.interface import Transport
from nodes.transport.memory import MemoryTransport
from nodes.transport.zmq import ZmqTransport

METHODS = [name for name, _ in inspect.getmembers(Transport, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("transport", [MemoryTransport, ZmqTransport])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_what_the_interface_says(transport: type, method: str) -> None:
    wanted, there = (inspect.signature(getattr(each, method)) for each in (Transport, transport))
    assert list(there.parameters) == list(wanted.parameters)
    assert inspect.iscoroutinefunction(getattr(transport, method)) == inspect.iscoroutinefunction(
        getattr(Transport, method)
    )
