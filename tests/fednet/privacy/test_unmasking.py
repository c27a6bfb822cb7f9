"""A false reveal is refused by who sent it, false shares by who dealt them, and a piece is unmasked like the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fednet.errors import PrivacyError
from fednet.privacy import shares as module
from fednet.privacy.entropy import SYSTEM
from fednet.privacy.field import SECRETS
from fednet.privacy.secure_sum_setup import SurvivorSet
from fednet.privacy.shares import SHARE_BYTES, SecretShare, deal
from fednet.privacy.unmasking import parse_reveal, reveal, reveal_bytes, unmask


@pytest.fixture
def agreement(whole: Any) -> SurvivorSet:
    found: SurvivorSet = whole.parties["c00"]._agreement
    return found


def test_who_took_no_part_unmasks_like_a_party(whole: Any, agreement: SurvivorSet) -> None:
    total = whole.parties["c00"].unmask(whole.total(), whole.reveals)
    for silent in (*whole.reveals, None):
        reveals = {name: revealed for name, revealed in whole.reveals.items() if name != silent}
        assert torch.equal(unmask(agreement, whole.total(), reveals), total)
    with pytest.raises(PrivacyError, match="2 of 5 parties revealed"):
        unmask(agreement, whole.total(), {name: whole.reveals[name] for name in ("c00", "c01")})


@pytest.mark.parametrize(("start", "stop"), [(0, 17), (17, 34), (3, 4), (34, 50)])
def test_a_piece_is_unmasked_like_the_whole(whole: Any, agreement: SurvivorSet, start: int, stop: int) -> None:
    piece = unmask(agreement, whole.total()[start:stop], whole.reveals, start)
    assert torch.equal(piece, unmask(agreement, whole.total(), whole.reveals)[start:stop])


def changed(revealed: bytes, place: int) -> bytes:
    return revealed[:place] + bytes([revealed[place] ^ 1]) + revealed[place + 1 :]


@pytest.mark.parametrize("place", [0, 31, 32, 64, 65, 32 + SHARE_BYTES - 1, reveal_bytes(5) - 1])
def test_a_reveal_with_any_bit_changed_is_refused_by_name(whole: Any, agreement: SurvivorSet, place: int) -> None:
    false = changed(whole.reveals["c01"], place)
    with pytest.raises(PrivacyError, match="'c01'") as caught:
        unmask(agreement, whole.total(), {**whole.reveals, "c01": false})
    assert caught.value.peers == ("c01",)
    with pytest.raises(PrivacyError, match="'c01'"):
        whole.parties["c00"].check_reveal("c01", false)
    whole.parties["c00"].check_reveal("c01", whole.reveals["c01"])


def test_a_reveal_of_another_peer_attempt_or_set_is_refused_by_name(whole: Any, agreement: SurvivorSet) -> None:
    other = type(whole).of(5, 3, b"another").advertise().share().receive()
    other.mask(dict.fromkeys(other.names, torch.zeros(3, dtype=torch.int32)), lost=["c04"]).reveal()
    false = [whole.reveals["c02"], other.reveals["c01"], whole.reveals["c01"][:-1], b""]
    for revealed in false:
        with pytest.raises(PrivacyError, match="'c01'"):
            parse_reveal(agreement, "c01", revealed)
    with pytest.raises(PrivacyError, match="'zz'"):
        parse_reveal(agreement, "zz", whole.reveals["c01"])
    everybody = SurvivorSet(agreement.parties, agreement.sharers, agreement.sharers)
    with pytest.raises(PrivacyError, match="for other survivors"):
        parse_reveal(everybody, "c01", whole.reveals["c01"])


def test_a_reveal_of_the_other_kind_is_refused(whole: Any, agreement: SurvivorSet) -> None:
    held = whole.parties["c01"]._held
    shares = {name: held[name][agreement.kind(name)] for name in agreement.sharers}
    assert reveal(agreement, shares) == whole.reveals["c01"]
    for name in ("c00", "c04"):
        other = "key" if agreement.kind(name) == "seed" else "seed"
        with pytest.raises(PrivacyError, match=f"'c01' reveals a share that '{name}' did not deal to it"):
            parse_reveal(agreement, "c01", reveal(agreement, {**shares, name: held[name][other]}))


@pytest.mark.parametrize("dealer", ["c02", "c04"])
@pytest.mark.parametrize("secret", [b"\1" * 32, b"\xff" * 32])
def test_who_dealt_shares_of_something_else_is_named(
    whole: Any, agreement: SurvivorSet, dealer: str, secret: bytes
) -> None:
    kind = agreement.kind(dealer)
    signer = whole.parties[dealer]._secrets.sign
    false = deal(secret, kind, dealer, agreement.parties, signer=signer, random=SYSTEM)
    reveals = {}
    for name in whole.reveals:
        shares = {other: whole.parties[name]._held[other][agreement.kind(other)] for other in agreement.sharers}
        reveals[name] = reveal(agreement, {**shares, dealer: false[name]})
    with pytest.raises(PrivacyError, match=f"the shares of {dealer!r} do not match what it advertised") as caught:
        unmask(agreement, whole.total(), reveals)
    assert caught.value.peers == (dealer,)


def test_shares_of_a_number_beyond_the_secrets_are_the_dealers_fault(whole: Any, agreement: SurvivorSet) -> None:
    signer = Ed25519PrivateKey.from_private_bytes(whole.parties["c02"]._secrets.sign)
    reveals = {}
    for name in whole.reveals:  # a constant polynomial whose value has 257 bits
        value = SECRETS.prime - 1
        share = SecretShare(value, signer.sign(module._statement(value, "seed", "c02", name, agreement.parties)))
        shares = {other: whole.parties[name]._held[other][agreement.kind(other)] for other in agreement.sharers}
        reveals[name] = reveal(agreement, {**shares, "c02": share})
    with pytest.raises(PrivacyError, match="shares of 'c02'"):
        unmask(agreement, whole.total(), reveals)


def test_what_is_no_sum_is_refused(whole: Any, agreement: SurvivorSet) -> None:
    with pytest.raises(PrivacyError, match="expected int32"):
        unmask(agreement, whole.total().float(), whole.reveals)
