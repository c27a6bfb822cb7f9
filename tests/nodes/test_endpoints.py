"""Where a node may not stand is refused with what to say instead, before anything is bound."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nodes.endpoints import check_endpoints
from nodes.errors import NodeError
from nodes.spec import NodeSpec
from protocol.security.keys import Keyring, PrivateKeys

KEYS = {name: PrivateKeys.make(name) for name in ("one", "eve")}
WIDE = "tcp://192.0.2.1:7000"


def ring(own: PrivateKeys) -> Keyring:
    return Keyring.of(own, [keys.public for keys in KEYS.values() if keys.name != own.name])


def spec(listen: str = "tcp://127.0.0.1:0", own: PrivateKeys | None = None, **given: Any) -> NodeSpec:
    return NodeSpec("one", "client", "test", listen, keys=ring(own) if own else None, **given)


@pytest.mark.parametrize(
    "fine",
    [
        spec(),
        spec("ipc:///tmp/a", join=("tcp://10.0.0.1:7000",)),
        spec("memory://one", join=("memory://two",)),
        spec(WIDE, insecure=True),
        spec(through="tcp://127.0.0.1:65532"),
        spec(WIDE, KEYS["one"], join=("eve@tcp://10.0.0.1:7000",), through="eve@tcp://10.0.0.2:7000"),
        spec("tcp://0.0.0.0:7000", KEYS["one"], advertise=WIDE),
    ],
)
def test_what_is_fine_passes(fine: NodeSpec) -> None:
    check_endpoints(fine)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (spec(advertise="foo"), "'foo' is no address of a node"),
        (spec(advertise="tcp://host"), "no address of a node"),
        (spec(join=("tcp://127.0.0.1:0",)), "no address of a node"),
        (spec(join=("tcp://127.0.0.1:65535",)), "the heartbeats take the next one; use a lower port"),
        (spec(advertise="tcp://10.0.0.1:65535"), "the heartbeats take the next one; use a lower port"),
        (spec(advertise="tcp://0.0.0.0:7000"), "--advertise tcp://0.0.0.0:7000 is no address that peers"),
        (spec(advertise="tcp://[::]:7000"), "no address that peers can connect to"),
        (spec(through="nowhere"), "no address of a node"),
        (spec(through="tcp://127.0.0.1:65533"), "a relay takes the next three, too; use a lower port"),
        (spec(WIDE), "give this node keys, or say --insecure"),
        (spec(through="tcp://10.0.0.2:7000"), "give this node keys, or say --insecure"),
        (spec("tcp://0.0.0.0:7000", insecure=True), "say with --advertise"),
        (spec("tcp://*:7000", KEYS["one"]), "say with --advertise"),
        (spec(own=KEYS["one"], join=("tcp://10.0.0.1:7000",)), "say name@tcp://10.0.0.1:7000"),
        (spec(own=KEYS["one"], through="tcp://10.0.0.2:7000"), "say name@tcp://10.0.0.2:7000"),
        (spec(own=KEYS["eve"]), "the keys are those of eve, and this node is one"),
        (spec(own=PrivateKeys.make("hub", "relay")), "those of a relay, which takes no part"),
        (spec(own=PrivateKeys.make("one", "guest")), "those of a guest, and this node is a client"),
    ],
)
def test_what_is_wrong_is_refused_with_what_to_say(wrong: NodeSpec, said: str) -> None:
    with pytest.raises(NodeError, match=re.escape(said)):
        check_endpoints(wrong)
