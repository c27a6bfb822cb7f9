"""Addresses as ZeroMQ takes them: told of IPv6 where the host is a number in brackets or a name that has nothing else.

ZeroMQ resolves names by itself, again at every new connection, and looks for IPv6 addresses alone where a socket's
option `ipv6` says so (zmq_setsockopt(3)). It is set for each address: a name of both families is reached by IPv4, at
which a node that binds a name can be heard too.
"""

from __future__ import annotations

import errno
import re
import socket
from typing import Any

import zmq

from nodes.errors import NodeError
from protocol.topics import split_endpoint

_TCP = re.compile(r"tcp://(?P<host>.+):\d+")
_IPV4 = re.compile(r"[0-9.]+")


def is_named(address: str) -> bool:
    """Whether an address has a host's name, which may take seconds to resolve."""
    host = _host(address)
    return not (host in {"", "*"} or host.startswith("[") or _IPV4.fullmatch(host))


def needs_ipv6(address: str) -> bool:
    """Whether the host of an address has IPv6 addresses only; a name that cannot be resolved has none."""
    if not is_named(address):
        return _host(address).startswith("[")
    try:
        found = {family for family, *_ in socket.getaddrinfo(_host(address), None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # the latter of labels that are empty or too long
        return False
    return socket.AF_INET6 in found and socket.AF_INET not in found


def bind(publisher: zmq.Socket[Any], address: str) -> None:
    """Binds a socket.

    Raises:
        NodeError: the address is in use, none of this machine, or none at all.
    """
    try:
        publisher.ipv6 = needs_ipv6(address)
        publisher.bind(address)
    except zmq.ZMQError as error:
        why = zmq.strerror(error.errno).lower() if error.errno else str(error)
        if error.errno == errno.ENODEV and is_named(address):
            why = f"{_host(address)} cannot be resolved, or is no host of this machine"
        raise NodeError(f"cannot listen on {address}: {why}; choose another address") from error


def _host(address: str) -> str:
    match = _TCP.fullmatch(split_endpoint(address)[1])
    return match["host"] if match else ""
