"""Who a name is: the key pairs of a node, and the public keys of those whom it trusts.

A node has two pairs: Curve25519 for whatever is closed (CurveZMQ on a connection, X25519 between two nodes) and
Ed25519 for whatever is signed. Their public halves and the name make one small text, which its owner hands to the
others by a way that they trust; the fingerprint is for comparing two such texts aloud. A name is bound to its keys
because a keyring holds one public text for a name, and one name for a key.

Knows texts, not files; private halves stand in no `repr` and in no error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import KeyFormatError
from protocol.topics import NAME

MAX_KEY_TEXT_BYTES = 4096
"""Longer texts are no keys."""

_FINGERPRINT_BYTES = 16

_Name = Annotated[str, Field(pattern=f"^{NAME}$")]
_Half = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Secret = Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def text(self) -> str:
        """What stands in a file."""
        return self.model_dump_json(indent=1) + "\n"


_Kind = TypeVar("_Kind", bound=_Text)


class PublicKeys(_Text):
    """What a node hands to others.

    Attributes:
        fednet: what this text is.
        name: whose keys they are.
        relay: whether that is a relay: it may pass messages on, and takes no part.
        curve: Curve25519, 64 hexadecimal digits.
        sign: Ed25519, 64 hexadecimal digits.
    """

    fednet: Literal["public keys"] = "public keys"
    name: _Name
    relay: bool = False
    curve: _Half
    sign: _Half

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over all of it, in groups of four digits."""
        said = f"fednet {'relay' if self.relay else 'keys'} {self.name} {self.curve} {self.sign}".encode()
        digits = hashlib.sha256(said).hexdigest()[: 2 * _FINGERPRINT_BYTES]
        return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))

    @property
    def verifier(self) -> Ed25519PublicKey:
        """What checks this node's signatures."""
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.sign))


class PrivateKeys(_Text):
    """What a node keeps to itself.

    Attributes:
        fednet: what this text is.
        name: whose keys they are.
        relay: whether that is a relay.
        curve: Curve25519, 64 hexadecimal digits.
        sign: the seed of Ed25519, 64 hexadecimal digits.
    """

    fednet: Literal["PRIVATE keys"] = "PRIVATE keys"
    name: _Name
    relay: bool = False
    curve: _Secret
    sign: _Secret

    @classmethod
    def make(cls, name: str, *, relay: bool = False) -> PrivateKeys:
        """New keys, of a node or a relay, from the operating system's generator.

        Raises:
            KeyFormatError: no node may be called this.
        """
        curve, sign = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        try:
            halves = curve.private_bytes_raw().hex(), sign.private_bytes_raw().hex()
            return cls(name=name, relay=relay, curve=halves[0], sign=halves[1])
        except ValidationError:
            raise KeyFormatError("a node's name must match NAME", name=name, pattern=NAME) from None

    @property
    def key_agreement(self) -> X25519PrivateKey:
        """What agrees on secrets with others."""
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.curve))

    @property
    def signer(self) -> Ed25519PrivateKey:
        """What signs."""
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.sign))

    @property
    def public(self) -> PublicKeys:
        """The halves to hand to others."""
        curve, sign = self.key_agreement.public_key(), self.signer.public_key()
        halves = curve.public_bytes_raw().hex(), sign.public_bytes_raw().hex()
        return PublicKeys(name=self.name, relay=self.relay, curve=halves[0], sign=halves[1])


def read_public(text: str | bytes) -> PublicKeys:
    """The public keys in a text.

    Raises:
        KeyFormatError: it holds none.
    """
    return _read(PublicKeys, text)


def read_private(text: str | bytes) -> PrivateKeys:
    """The private keys in a text.

    Raises:
        KeyFormatError: it holds none; the text is not repeated.
    """
    return _read(PrivateKeys, text)


def _read(kind: type[_Kind], text: str | bytes) -> _Kind:
    if len(text) > MAX_KEY_TEXT_BYTES:
        raise KeyFormatError("the text is too long for keys", most=MAX_KEY_TEXT_BYTES)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the text"
        raise KeyFormatError("this is no such text", wanted=kind.__name__, field=where, expected=fault["msg"]) from None


@dataclass(frozen=True)
class Keyring:
    """A node's own keys and those whom it trusts.

    Attributes:
        own: who this node is.
        trusted: public keys of nodes by name; this node's own are among them.
        relays: those of relays by name: who answers at an address may hold them, and nobody may speak with them.
        names_by_signing_key: the name that an Ed25519 key belongs to.
        names_by_curve_key: the name that a Curve25519 key belongs to.
    """

    own: PrivateKeys
    trusted: Mapping[str, PublicKeys]
    relays: Mapping[str, PublicKeys]
    names_by_signing_key: Mapping[bytes, str] = field(repr=False)
    names_by_curve_key: Mapping[bytes, str] = field(repr=False)

    @classmethod
    def of(cls, own: PrivateKeys, others: Iterable[PublicKeys]) -> Keyring:
        """A keyring, in which no two names share a key.

        Raises:
            KeyFormatError: two texts contradict each other, or one of them says other keys for this node's name.
        """
        known: dict[str, PublicKeys] = {own.name: own.public}
        for public in others:
            if known.setdefault(public.name, public) != public:
                raise KeyFormatError("two different keys for one name", name=public.name)
        if len({public.sign for public in known.values()} | {public.curve for public in known.values()}) < 2 * len(
            known
        ):
            raise KeyFormatError("two names share a key", names=sorted(known))
        trusted = {name: public for name, public in known.items() if not public.relay}
        relays = {name: public for name, public in known.items() if public.relay}
        names = {bytes.fromhex(public.sign): name for name, public in trusted.items()}
        doors = {bytes.fromhex(public.curve): name for name, public in trusted.items()}
        return cls(own, trusted, relays, names, doors)
