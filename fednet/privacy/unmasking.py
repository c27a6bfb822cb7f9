"""Unmasking of a secure sum: verifies reveals, recovers the secrets and subtracts all masks.

Bonawitz et al. 2017, figure 4, round 4. Any holder of enough reveals can do it. Recovered secrets are checked against
the advertised keys and commitments, so that a sum is correct or refused. Differs from the paper: shares are signed by
their dealers and seeds are committed to.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from torch import Tensor

from fednet.errors import PrivacyError
from fednet.privacy.field import SECRETS
from fednet.privacy.masking import KEY, VectorMasking, derive_key, length_prefixed, public_key, shared_secret
from fednet.privacy.secure_sum_setup import SecureSumParameters, SecureSumParties, SurvivorSet
from fednet.privacy.shares import SHARE_BYTES, SecretShare, is_genuine

_DIGEST = 32


def reveal_bytes(sharers: int) -> int:
    """Size of a reveal with this number of sharers."""
    return _DIGEST + sharers * SHARE_BYTES


def reveal(agreement: SurvivorSet, shares: Mapping[str, SecretShare]) -> bytes:
    """A party's reveal: the agreement's digest, and its shares by dealer of the kinds that the agreement requires."""
    return agreement.digest + b"".join(shares[dealer].packed() for dealer in agreement.sharers)


def parse_reveal(agreement: SurvivorSet, name: str, revealed: bytes) -> dict[str, SecretShare]:
    """The shares in a party's reveal, by dealer.

    Raises:
        PrivacyError: it is for other survivors, or a share was not dealt to this party; names the party.
    """
    sharers = agreement.sharers
    if name not in sharers:
        raise PrivacyError(f"{name!r} reveals shares, but is not a sharer: exclude it", (name,))
    if len(revealed) != reveal_bytes(len(sharers)) or revealed[:_DIGEST] != agreement.digest:
        raise PrivacyError(
            f"the reveal of {name!r} is of another attempt or for other survivors: exclude it",
            (name,),
        )
    starts = range(_DIGEST, len(revealed), SHARE_BYTES)
    parts = (SecretShare.unpacked(revealed[start : start + SHARE_BYTES]) for start in starts)
    shares = dict(zip(sharers, parts, strict=True))
    for dealer, share in shares.items():
        if not is_genuine(share, agreement.kind(dealer), dealer, name, agreement.parties):
            raise PrivacyError(f"{name!r} reveals a share that {dealer!r} did not deal to it: exclude it", (name,))
    return shares


def unmask(agreement: SurvivorSet, total: Tensor, reveals: Mapping[str, bytes], offset: int = 0) -> Tensor:
    """Subtracts all masks from the sum of the survivors' masked vectors.

    Args:
        agreement: sharers and survivors.
        total: int32 (n,), the sum modulo 2^32 of the masked vectors of exactly the survivors, or a slice of it.
        reveals: reveals by party, at least `threshold`.
        offset: position of the slice in the vectors.

    Returns:
        int32 (n,): the exact sum of the survivors' vectors modulo 2^32.

    Raises:
        PrivacyError: too few reveals, an invalid one, or a party with inconsistent shares; names the party.
    """
    return Unmasking(agreement, reveals).removal(offset).next(total)


class Unmasking:
    """All masks in a sum of survivors' masked vectors, to be removed from it as a whole or in slices.

    Args:
        agreement: sharers and survivors.
        reveals: reveals by party, at least `threshold`.

    Raises:
        PrivacyError: too few reveals, an invalid one, or a party with inconsistent shares; names the party.
    """

    def __init__(self, agreement: SurvivorSet, reveals: Mapping[str, bytes]) -> None:
        secrets, parties = _secrets(agreement, reveals), agreement.parties
        self._masks = [(own_key(secrets[name], name, parties), -1) for name in agreement.survivors]
        for name in sorted(secrets.keys() - set(agreement.survivors)):
            self._masks += [
                (pair_key(secrets[name], name, survivor, parties), -mask_sign(survivor, name))
                for survivor in agreement.survivors
            ]

    def removal(self, offset: int = 0) -> VectorMasking:
        """Takes the masks out of the sum of masked vectors, slice by slice from `offset` on."""
        return VectorMasking("sum", self._masks, offset)


def mask_sign(name: str, other: str) -> int:
    """Whether a party adds (1) or subtracts (-1) the mask that it shares with another one."""
    return 1 if name < other else -1


def own_key(seed: bytes, name: str, parties: SecureSumParties) -> bytes:
    """The key of a party's self mask."""
    return derive_key(seed, b"fednet own mask", parties.digest, name.encode())


def pair_key(private: bytes, name: str, other: str, parties: SecureSumParties) -> bytes:
    """The key of the mask of a pair of parties; the same from either side.

    Raises:
        PrivacyError: the other's key is invalid; names it.
    """
    try:
        secret = shared_secret(private, parties.keys[other].mask)
    except PrivacyError as error:
        raise PrivacyError(f"{other!r}: {error}", (other,)) from None
    return derive_key(secret, b"fednet pair mask", parties.digest, *(part.encode() for part in sorted((name, other))))


def commitment(seed: bytes, name: str, parameters: SecureSumParameters) -> bytes:
    """A party's commitment to its seed."""
    return sha256(length_prefixed(b"fednet seed", parameters.digest, name.encode(), seed)).digest()


def _secrets(agreement: SurvivorSet, reveals: Mapping[str, bytes]) -> dict[str, bytes]:
    """The seed of every survivor and the key of every other sharer."""
    parameters = agreement.parties.parameters
    parameters.require_enough(reveals, "revealed their shares")
    held = {
        parameters.place(name): parse_reveal(agreement, name, revealed) for name, revealed in sorted(reveals.items())
    }
    places = sorted(held)[: parameters.threshold]
    weights = SECRETS.weights(places)
    secrets = {}
    for dealer in agreement.sharers:
        values = (held[place][dealer].value for place in places)
        secret = sum(weight * value for weight, value in zip(weights, values, strict=True)) % SECRETS.prime
        secrets[dealer] = _checked(secret, dealer, agreement)
    return secrets


def _checked(secret: int, dealer: str, agreement: SurvivorSet) -> bytes:
    """The secret as bytes, if it matches the advertised key or commitment."""
    keys, parameters = agreement.parties.keys[dealer], agreement.parties.parameters
    if secret < 1 << 8 * KEY:
        plain = secret.to_bytes(KEY, "big")
        is_seed = agreement.kind(dealer) == "seed"
        if (commitment(plain, dealer, parameters) == keys.commitment) if is_seed else (public_key(plain) == keys.mask):
            return plain
    raise PrivacyError(
        f"the shares of {dealer!r} do not match what it advertised: start another attempt without it", (dealer,)
    )
