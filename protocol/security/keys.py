"""The identity of a node: its key pairs, and the public keys that it trusts.

A node has two pairs: Curve25519 for encryption (CurveZMQ on a connection, X25519 between two nodes) and Ed25519 for
signatures. The public keys and the name are one small text, which its owner hands to the others over a channel that
they trust; the fingerprint is for comparing two such texts over the phone. A name is bound to its keys, because a
keyring holds one public text for a name, and one name for a key.

Knows texts, not files; private keys appear in no `repr` and in no error.
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
"""Bytes of a text with keys, at most."""

_FINGERPRINT_BYTES = 16

_Name = Annotated[str, Field(pattern=f"^{NAME}$")]
_KeyText = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_SecretText = Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def text(self) -> str:
        """The content of a file with these keys."""
        return self.model_dump_json(indent=1) + "\n"


_Kind = TypeVar("_Kind", bound=_KeyFile)


class PublicKeys(_KeyFile):
    """The public keys of a node or relay.

    Attributes:
        fednet: marks the kind of the text.
        name: of their owner.
        relay: whether that is a relay, which forwards messages and is no member.
        curve: Curve25519, 64 hexadecimal digits.
        sign: Ed25519, 64 hexadecimal digits.
    """

    fednet: Literal["public keys"] = "public keys"
    name: _Name
    relay: bool = False
    curve: _KeyText
    sign: _KeyText

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over all of it, in groups of four digits."""
        text = f"fednet {'relay' if self.relay else 'keys'} {self.name} {self.curve} {self.sign}".encode()
        digits = hashlib.sha256(text).hexdigest()[: 2 * _FINGERPRINT_BYTES]
        return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))

    @property
    def verifier(self) -> Ed25519PublicKey:
        """Verifies this node's signatures."""
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.sign))


class PrivateKeys(_KeyFile):
    """The private keys of a node or relay.

    Attributes:
        fednet: marks the kind of the text.
        name: of their owner.
        relay: whether that is a relay.
        curve: Curve25519, 64 hexadecimal digits.
        sign: the seed of Ed25519, 64 hexadecimal digits.
    """

    fednet: Literal["PRIVATE keys"] = "PRIVATE keys"
    name: _Name
    relay: bool = False
    curve: _SecretText
    sign: _SecretText

    @classmethod
    def make(cls, name: str, *, relay: bool = False) -> PrivateKeys:
        """New keys of a node or relay, from the operating system's generator.

        Raises:
            KeyFormatError: this is not the name of a node.
        """
        curve, sign = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        try:
            texts = curve.private_bytes_raw().hex(), sign.private_bytes_raw().hex()
            return cls(name=name, relay=relay, curve=texts[0], sign=texts[1])
        except ValidationError:
            raise KeyFormatError("a node's name must match NAME", name=name, pattern=NAME) from None

    @property
    def key_agreement(self) -> X25519PrivateKey:
        """Derives shared secrets with other nodes."""
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.curve))

    @property
    def signer(self) -> Ed25519PrivateKey:
        """Signs."""
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.sign))

    @property
    def public(self) -> PublicKeys:
        """The public keys of these."""
        curve, sign = self.key_agreement.public_key(), self.signer.public_key()
        texts = curve.public_bytes_raw().hex(), sign.public_bytes_raw().hex()
        return PublicKeys(name=self.name, relay=self.relay, curve=texts[0], sign=texts[1])


def read_public(text: str | bytes) -> PublicKeys:
    """The public keys in a text.

    Raises:
        KeyFormatError: it holds none.
    """
    return _read(PublicKeys, text)


def read_private(text: str | bytes) -> PrivateKeys:
    """The private keys in a text.

    Raises:
        KeyFormatError: it holds none; the error does not repeat the text.
    """
    return _read(PrivateKeys, text)


def _read(kind: type[_Kind], text: str | bytes) -> _Kind:
    if len(text) > MAX_KEY_TEXT_BYTES:
        raise KeyFormatError("the text is too long for keys", most=MAX_KEY_TEXT_BYTES)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise KeyFormatError(
            "the text is not a file of keys", wanted=kind.__name__, field=where, expected=first["msg"]
        ) from None


@dataclass(frozen=True)
class Keyring:
    """A node's own keys and those that it trusts.

    Attributes:
        own: who this node is.
        trusted: public keys of nodes by name, this node's own included.
        relays: those of relays by name: accepted at an address, but not as the sender of a message.
        names_by_signing_key: the owner of each Ed25519 key.
        names_by_curve_key: the owner of each Curve25519 key.
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
            KeyFormatError: two texts contradict each other, or one has other keys for this node's name.
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
        by_signing_key = {bytes.fromhex(public.sign): name for name, public in trusted.items()}
        by_curve_key = {bytes.fromhex(public.curve): name for name, public in trusted.items()}
        return cls(own, trusted, relays, by_signing_key, by_curve_key)

    def at_address(self, name: str) -> PublicKeys | None:
        """The keys that must answer at the address of a node or a relay; None where they are not trusted."""
        return self.trusted.get(name) or self.relays.get(name)
