"""ZeroMQ is told of IPv6 where a host has nothing else, and what cannot be bound is said."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import zmq

from nodes.errors import NodeError
from nodes.transport.addresses import bind, is_named, needs_ipv6

FAMILIES = {"six": [socket.AF_INET6], "four": [socket.AF_INET], "both": [socket.AF_INET6, socket.AF_INET]}


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that are called after the families of their addresses."""

    def resolved(host: str, *_rest: Any, **_more: Any) -> list[Any]:
        if host not in FAMILIES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, socket.SOCK_STREAM, 6, "", ()) for family in FAMILIES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(
    ("address", "named", "ipv6"),
    [
        ("tcp://six:7400", True, True),
        ("hub@tcp://six:7400", True, True),
        ("tcp://four:7400", True, False),
        ("tcp://both:7400", True, False),
        ("tcp://nowhere:7400", True, False),
        ("tcp://[::1]:7400", False, True),
        ("hub@tcp://[fe80::1%eth0]:7400", False, True),
        ("tcp://127.0.0.1:7400", False, False),
        ("tcp://*:7400", False, False),
        ("ipc:///tmp/six:1", False, False),
    ],
)
def test_ipv6_is_for_hosts_that_have_nothing_else(address: str, named: bool, ipv6: bool) -> None:
    assert (is_named(address), needs_ipv6(address)) == (named, ipv6)


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_name_that_cannot_be_one_has_no_addresses(host: str) -> None:
    assert not needs_ipv6(f"tcp://{host}:7400")


def test_a_host_that_cannot_be_resolved_is_said_where_it_is_bound() -> None:
    said = r"no-such-host\.invalid cannot be resolved, or is no host of this machine"
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher, pytest.raises(NodeError, match=said):
        bind(publisher, "tcp://no-such-host.invalid:7400")
