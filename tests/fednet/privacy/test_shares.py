"""A share is its dealer's, for one receiver, kind and parties; a sealed one opens for its receiver only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fednet.errors import PrivacyError
from fednet.privacy import shares as module
from fednet.privacy.entropy import SeededRandom
from fednet.privacy.field import SECRETS
from fednet.privacy.masking import public_key
from fednet.privacy.secure_sum_setup import Kind, PartyKeys, SecureSumParameters, SecureSumParties
from fednet.privacy.shamir import recover
from fednet.privacy.shares import SEALED_BYTES, SHARE_BYTES, DealtShares, SecretShare, deal, is_genuine, seal, unseal

NAMES = ("a", "b", "c", "d")


def private(name: str, part: str) -> bytes:
    return SeededRandom(0, name, part)(32)


def keys(name: str) -> PartyKeys:
    signer = Ed25519PrivateKey.from_private_bytes(private(name, "sign")).public_key().public_bytes_raw()
    return PartyKeys(public_key(private(name, "seal")), public_key(private(name, "mask")), signer, private(name, "c"))


def parties(attempt: bytes = b"1") -> SecureSumParties:
    return SecureSumParties(SecureSumParameters(NAMES, 3, attempt), {name: keys(name) for name in NAMES})


def dealt(dealer: str = "a", under: SecureSumParties | None = None) -> Mapping[str, DealtShares]:
    where = under or parties()
    parts: dict[Kind, str] = {"key": "mask", "seed": "seed"}
    shares = {
        kind: deal(
            private(dealer, part), kind, dealer, where, signer=private(dealer, "sign"), random=SeededRandom(1, part)
        )
        for kind, part in parts.items()
    }
    return {name: {"key": shares["key"][name], "seed": shares["seed"][name]} for name in NAMES}


def sealed(dealer: str = "a", receiver: str = "b", under: SecureSumParties | None = None) -> bytes:
    where = under or parties()
    return seal(dealt(dealer, where)[receiver], private(dealer, "seal"), dealer, receiver, where)


def test_what_is_dealt_is_genuine_and_gives_the_secret_back() -> None:
    shares = {place: dealt()[name]["seed"] for place, name in enumerate(NAMES, 1)}
    assert all(is_genuine(share, "seed", "a", NAMES[place - 1], parties()) for place, share in shares.items())
    values = {place: share.value for place, share in shares.items()}
    assert recover(values, 3).to_bytes(32, "big") == private("a", "seed")


def test_a_share_of_anything_else_is_not_genuine() -> None:
    share = dealt()["b"]["seed"]
    assert not is_genuine(share, "key", "a", "b", parties())
    assert not is_genuine(share, "seed", "c", "b", parties())
    assert not is_genuine(share, "seed", "a", "c", parties())
    assert not is_genuine(share, "seed", "a", "b", parties(b"2"))
    assert not is_genuine(replace(share, value=share.value ^ 1), "seed", "a", "b", parties())
    assert not is_genuine(replace(share, signature=bytes(64)), "seed", "a", "b", parties())


def test_a_dealer_cannot_sign_what_is_no_element() -> None:
    statement = module._statement(SECRETS.prime, "seed", "a", "b", parties())
    signature = Ed25519PrivateKey.from_private_bytes(private("a", "sign")).sign(statement)
    assert not is_genuine(SecretShare(SECRETS.prime, signature), "seed", "a", "b", parties())


def test_the_receiver_opens_what_was_sealed() -> None:
    box = sealed()
    assert len(box) == SEALED_BYTES
    assert unseal(box, private("b", "seal"), "a", "b", parties()) == dealt()["b"]
    packed = dealt()["b"]["key"].packed()
    assert len(packed) == SHARE_BYTES
    assert SecretShare.unpacked(packed) == dealt()["b"]["key"]


def flipped(box: bytes, place: int) -> bytes:
    return box[:place] + bytes([box[place] ^ 1]) + box[place + 1 :]


BAD = {
    "tampered at the front": lambda: flipped(sealed(), 0),
    "tampered in the tag": lambda: flipped(sealed(), SEALED_BYTES - 1),
    "cut short": lambda: sealed()[:-1],
    "longer": lambda: sealed() + b"0",
    "empty": lambda: b"",
    "of another attempt": lambda: sealed(under=parties(b"2")),
    "for another peer": lambda: sealed(receiver="c"),
    "of another peer": lambda: sealed(dealer="c"),
    "with the shares of another peer in it": lambda: seal(dealt()["c"], private("a", "seal"), "a", "b", parties()),
    "with the kinds swapped": lambda: seal(
        {"key": dealt()["b"]["seed"], "seed": dealt()["b"]["key"]}, private("a", "seal"), "a", "b", parties()
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_by_its_senders_name(case: str) -> None:
    with pytest.raises(PrivacyError, match="'a' sent to 'b' are invalid") as caught:
        unseal(BAD[case](), private("b", "seal"), "a", "b", parties())
    assert caught.value.peers == ("a",)
    assert caught.value.__cause__ is None


def test_a_box_sent_back_does_not_open() -> None:
    with pytest.raises(PrivacyError):
        unseal(sealed("a", "b"), private("a", "seal"), "b", "a", parties())


def test_a_key_of_small_order_is_refused_by_name() -> None:
    bad = SecureSumParties(parties().parameters, {**parties().keys, "b": replace(keys("b"), seal=bytes(32))})
    with pytest.raises(PrivacyError, match="'b': a public key is of small order") as caught:
        seal(dealt(under=bad)["b"], private("a", "seal"), "a", "b", bad)
    assert caught.value.peers == ("b",)


def test_no_share_is_shown() -> None:
    share = dealt()["b"]["seed"]
    assert repr(share) == str(share) == "SecretShare()"


def test_no_two_boxes_are_under_one_key() -> None:
    content = dealt()["b"]  # the nonce is always the same, so the key must never be
    boxes = [
        seal(content, private("a", "seal"), "a", "b", parties()),
        seal(content, private("b", "seal"), "b", "a", parties()),
        seal(content, private("a", "seal"), "a", "c", parties()),
        seal(content, private("a", "seal"), "a", "b", parties(b"2")),
    ]
    assert len(set(boxes)) == len(boxes)
