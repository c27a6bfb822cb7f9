"""Members that sign, with keys or without, and an attempt of three of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.machines.signatory import Signatory
from protocol.security.authentication import NullSecurity, Security
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys

KEYS = {name: PrivateKeys.make(name) for name in "abc"}
MEMBERS = tuple(KEYS)


class Signing:
    """As much of a node as signs."""

    run = "run"

    def __init__(self, name: str, *, keyed: bool) -> None:
        ring = Keyring.of(KEYS[name], [keys.public for keys in KEYS.values()])
        security: Security = KeyedSecurity(ring, 1) if keyed else NullSecurity()
        self.attest, self.attested = security.attest, security.attested


@pytest.fixture
def make_signatory() -> Callable[..., Signatory]:
    """Makes the signatory of one of the members a, b and c, with keys or without."""

    def make(name: str, *, keyed: bool = False) -> Signatory:
        return Signatory(Signing(name, keyed=keyed), lambda: MEMBERS)

    return make
