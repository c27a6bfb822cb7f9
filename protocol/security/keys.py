"""The identity of a node: its key pairs, and the public keys that it trusts.

A node has two pairs: Curve25519 for encryption (CurveZMQ on a connection, X25519 between two nodes) and Ed25519 for
signatures. Name, public keys and role are one small text, a signed statement, which its owner hands to the others over
a channel that they trust; the fingerprint is for comparing the keys of two such texts over the phone. A name is bound
to its keys, because a keyring holds one public text for a name, and one name for a key.

The owner signs its statement, which proves that it holds the keys and that nobody has changed the role on the way. Who
trusts it decides what it counts for: as it is, or as a statement that this one has signed in its place, with another
role or an end (`PublicKeys.granted`). What a role may say and hear is `protocol.security.roles`.

Reads texts, not files; private keys appear in no `repr` and in no error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protocol.errors import KeyFormatError
from protocol.security.key_roles import RIGHTS, KeyRole, Right
from protocol.topics import NAME

MAX_KEY_TEXT_BYTES = 4096
"""Bytes of a text with keys, at most."""

_FINGERPRINT_BYTES = 16

_STATEMENT = b"fednet public keys 1"

_Name = Annotated[str, Field(pattern=f"^{NAME}$")]
_KeyText = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_SecretText = Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
_SignatureText = Annotated[str, Field(pattern="^[0-9a-f]{128}$", repr=False)]


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def text(self) -> str:
        """The content of a file with these keys."""
        return self.model_dump_json(indent=1) + "\n"


_Kind = TypeVar("_Kind", bound=_KeyFile)


class PublicKeys(_KeyFile):
    """The public keys of a node or relay, and what it is let in as: a statement that is signed.

    Attributes:
        fednet: marks the kind of the text.
        name: of their owner.
        role: a relay forwards messages and is no member.
        may: what a guest may do, sorted; empty for the other roles.
        not_after: the last day (UTC) on which they are trusted; None: until they are revoked.
        curve: Curve25519, 64 hexadecimal digits.
        sign: Ed25519, 64 hexadecimal digits.
        signed_by: who has signed the statement; empty: their owner.
        signature: Ed25519, 128 hexadecimal digits, over all of this.
    """

    fednet: Literal["public keys"] = "public keys"
    name: _Name
    role: KeyRole
    may: tuple[Right, ...] = ()
    not_after: date | None = None
    curve: _KeyText
    sign: _KeyText
    signed_by: _Name | Literal[""] = ""
    signature: _SignatureText

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.may != _sorted_rights(self.role, self.may):
            raise ValueError(f"expected rights of a guest, sorted, each once: {', '.join(RIGHTS)}")
        if not self.signed_by and not self.is_signed_by(self):
            raise ValueError("expected the signature of the keys' owner")
        return self

    @property
    def relay(self) -> bool:
        """Whether they are those of a relay."""
        return self.role == "relay"

    def same_keys(self, other: PublicKeys) -> bool:
        """Whether another statement is about the same keys."""
        return (self.name, self.curve, self.sign) == (other.name, other.curve, other.sign)

    def expired(self, today: date) -> bool:
        """Whether they are trusted no more on a day (UTC)."""
        return self.not_after is not None and today > self.not_after

    def is_signed_by(self, signer: PublicKeys) -> bool:
        """Whether the owner of these keys has signed this statement."""
        try:
            signer.verifier.verify(bytes.fromhex(self.signature), _statement(self))
        except InvalidSignature:
            return False
        return self.signed_by in {"", signer.name}

    def granted(
        self, by: PrivateKeys, role: KeyRole, may: Iterable[Right] = (), not_after: date | None = None
    ) -> PublicKeys:
        """The statement that one who trusts these keys signs in place of their owner.

        Args:
            by: who trusts them.
            role: what their owner is let in as.
            may: what a guest may do.
            not_after: the last day (UTC).

        Raises:
            KeyFormatError: a member is let in as a relay or the other way round, or one who is no guest has rights.
        """
        if self.relay != (role == "relay"):
            raise KeyFormatError("a relay is no member, and no member a relay", name=self.name, role=role)
        about = {"role": role, "may": _sorted_rights(role, may), "not_after": not_after, "signed_by": by.name}
        return _signed(self.model_copy(update=about), by.signer)

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over the name and the keys, in groups of four digits."""
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
        role: what their owner asks to be let in as.
        may: what it asks to be allowed as a guest.
        curve: Curve25519, 64 hexadecimal digits.
        sign: the seed of Ed25519, 64 hexadecimal digits.
    """

    fednet: Literal["PRIVATE keys"] = "PRIVATE keys"
    name: _Name
    role: KeyRole = "client"
    may: tuple[Right, ...] = ()
    curve: _SecretText
    sign: _SecretText

    @classmethod
    def make(cls, name: str, role: KeyRole = "client", may: Iterable[Right] = ()) -> PrivateKeys:
        """New keys of a node or relay, from the operating system's generator.

        Raises:
            KeyFormatError: this is not the name of a node, or one who is no guest asks for a guest's rights.
        """
        rights = _sorted_rights(role, may)
        curve, sign = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        try:
            texts = curve.private_bytes_raw().hex(), sign.private_bytes_raw().hex()
            return cls(name=name, role=role, may=rights, curve=texts[0], sign=texts[1])
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
    def relay(self) -> bool:
        """Whether they are those of a relay."""
        return self.role == "relay"

    @property
    def public(self) -> PublicKeys:
        """The public keys of these, as their owner states them."""
        curve, sign = self.key_agreement.public_key(), self.signer.public_key()
        texts = curve.public_bytes_raw().hex(), sign.public_bytes_raw().hex()
        unsigned = PublicKeys.model_construct(
            name=self.name, role=self.role, may=self.may, curve=texts[0], sign=texts[1], signature=""
        )
        return _signed(unsigned, self.signer)


def _signed(unsigned: PublicKeys, signer: Ed25519PrivateKey) -> PublicKeys:
    """A statement, checked and signed."""
    signature = signer.sign(_statement(unsigned)).hex()
    return PublicKeys.model_validate({**unsigned.model_dump(), "signature": signature})


def _statement(keys: PublicKeys) -> bytes:
    """The bytes that are signed."""
    end = keys.not_after.isoformat() if keys.not_after else ""
    parts = (keys.name, keys.role, ",".join(keys.may), end, keys.curve, keys.sign, keys.signed_by)
    return b"\0".join([_STATEMENT, *(part.encode() for part in parts)])


def _sorted_rights(role: KeyRole, may: Iterable[Right]) -> tuple[Right, ...]:
    """The rights of a role as a statement lists them.

    Raises:
        KeyFormatError: one who is no guest has any.
    """
    rights = tuple(sorted(set(may)))
    if rights and role != "guest":
        raise KeyFormatError("only a guest has rights of its own", role=role, may=rights)
    return rights


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
        file: its private file, where it has one: the trusted keys lie around it, and may change.
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
    file: Path | None = field(default=None, compare=False)

    @classmethod
    def of(cls, own: PrivateKeys, others: Iterable[PublicKeys], file: Path | None = None) -> Keyring:
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
        return cls(own, trusted, relays, by_signing_key, by_curve_key, file)

    def current(self, today: date) -> Keyring:
        """The keyring without the keys that are trusted no more on a day (UTC)."""
        known = [*self.trusted.values(), *self.relays.values()]
        if not any(public.expired(today) for public in known):
            return self
        return Keyring.of(self.own, [public for public in known if not public.expired(today)], self.file)

    def at_address(self, name: str) -> PublicKeys | None:
        """The keys that must answer at the address of a node or a relay; None where they are not trusted."""
        return self.trusted.get(name) or self.relays.get(name)
