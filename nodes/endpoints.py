"""Whether a node may stand where its specification says, looked at before anything is bound.

Pure: knows how addresses are spelled and what keys a node has, and opens nothing.
"""

from __future__ import annotations

from nodes.errors import NodeError
from nodes.spec import NodeSpec
from protocol import topics
from protocol.security.key_roles import may_take_part

WILDCARD_BINDS = ("tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:")


def check_endpoints(spec: NodeSpec) -> None:
    """Refuses what is no address, to be open to a network unsaid, and to announce what nobody can connect to.

    Raises:
        NodeError: that is what the specification says, and what to say instead.
    """
    _check_addresses(spec)
    heard_at = spec.through or spec.listen
    if not (spec.keys or spec.insecure or topics.is_local(heard_at)):
        raise NodeError(f"{heard_at} is open to the network: give this node keys, or say --insecure if it may be")
    if spec.keys:
        _check_keys(spec)
    if spec.advertise is None and spec.listen.startswith(WILDCARD_BINDS):
        raise NodeError(f"{spec.listen} is no address that peers can connect to: say with --advertise what they can")


def _check_addresses(spec: NodeSpec) -> None:
    named = [topics.split_endpoint(text)[1] for text in spec.join]
    for address in (*named, *filter(None, (spec.advertise, spec.through))):
        if not topics.is_address(address):
            raise NodeError(f"{address!r} is no address of a node: expected tcp://host:port or ipc://path")
        ports = topics.RELAY_PORTS if address == spec.through else topics.NODE_PORTS
        where = topics.split_endpoint(address)[1]
        if where.startswith("tcp://") and not topics.is_listen(where, ports):
            who = "a relay takes the next three, too" if address == spec.through else "the heartbeats take the next one"
            raise NodeError(f"{address} leaves too few ports below {2**16}: {who}; use a lower port")
    if spec.advertise is not None and spec.advertise.startswith(WILDCARD_BINDS):
        raise NodeError(f"--advertise {spec.advertise} is no address that peers can connect to: name one interface")


def _check_keys(spec: NodeSpec) -> None:
    """With keys, whoever answers must be known beforehand, and this node is whom its keys name."""
    for text in (*spec.join, *([spec.through] if spec.through else [])):
        if not topics.split_endpoint(text)[0]:
            raise NodeError(f"whose key must who answers at {text} hold? With keys, say name@{text}")
    own = spec.keys.own if spec.keys else None
    if own is not None and own.relay:
        raise NodeError(f"the keys of {own.name} are those of a relay, which takes no part")
    if own is not None and not may_take_part(own.role, spec.role):
        raise NodeError(f"the keys of {own.name} are those of a {own.role}, and this node is a {spec.role}: use others")
    if own is not None and own.name != spec.name:
        raise NodeError(f"the keys are those of {own.name}, and this node is {spec.name}")
