"""From the sum of the masked vectors to the sum: reveals are checked, secrets recovered, masks taken away.

Everybody who holds enough reveals can do it, also a peer that took no part. What is recovered is checked against what
its owner advertised: a sum is right or refused, never garbage. Bonawitz et al. 2017, figure 4, round 4 (reveals are
signed by who dealt the shares, and secrets are committed to, which the paper leaves out). Refuses to reveal anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from torch import Tensor

from fednet.errors import PrivacyError
from fednet.privacy.field import SECRETS
from fednet.privacy.masking import KEY, add_mask, derive_key, length_prefixed, public_key, require_vector, shared_secret
from fednet.privacy.secure_sum_setup import SecureSumParameters, SecureSumParties, SurvivorSet
from fednet.privacy.shares import SHARE_BYTES, SecretShare, is_genuine

_DIGEST = 32


def reveal_bytes(sharers: int) -> int:
    """The bytes of one reveal, when so many peers have shared."""
    return _DIGEST + sharers * SHARE_BYTES


def reveal(agreement: SurvivorSet, shares: Mapping[str, SecretShare]) -> bytes:
    """One peer's shares, by dealer, of what the agreement says; bound to the agreement."""
    return agreement.digest + b"".join(shares[dealer].packed() for dealer in agreement.sharers)


def parse_reveal(agreement: SurvivorSet, name: str, revealed: bytes) -> dict[str, SecretShare]:
    """The shares in a peer's reveal, by dealer.

    Raises:
        PrivacyError: it is of another agreement, or a share in it is not what was dealt to this peer; names the peer.
    """
    sharers = agreement.sharers
    if name not in sharers:
        raise PrivacyError(f"{name!r} reveals shares, but holds none: leave it out", (name,))
    if len(revealed) != reveal_bytes(len(sharers)) or revealed[:_DIGEST] != agreement.digest:
        raise PrivacyError(
            f"the reveal of {name!r} is of another attempt, or of other survivors than were agreed on: leave it out",
            (name,),
        )
    starts = range(_DIGEST, len(revealed), SHARE_BYTES)
    parts = (SecretShare.unpacked(revealed[start : start + SHARE_BYTES]) for start in starts)
    shares = dict(zip(sharers, parts, strict=True))
    for dealer, share in shares.items():
        if not is_genuine(share, agreement.kind(dealer), dealer, name, agreement.parties):
            raise PrivacyError(f"{name!r} reveals a share that {dealer!r} did not deal it: leave it out", (name,))
    return shares


def unmask(agreement: SurvivorSet, total: Tensor, reveals: Mapping[str, bytes], offset: int = 0) -> Tensor:
    """Takes all masks away from the sum of the survivors' masked vectors.

    Args:
        agreement: who shared and who survived.
        total: int32 (n,), the sum modulo 2^32 of the masked vectors of exactly the survivors, or a piece of it.
        reveals: by whose they are, at least the threshold's number.
        offset: where in the vectors the piece begins.

    Returns:
        int32 (n,): the exact sum of the survivors' vectors modulo 2^32.

    Raises:
        PrivacyError: too few reveals, a false one, or shares that a peer dealt falsely; names whose.
    """
    result = require_vector(total, "sum").clone()
    secrets = _secrets(agreement, reveals)
    for survivor in agreement.survivors:
        add_mask(result, own_key(secrets[survivor], survivor, agreement.parties), -1, offset)
    for name in secrets.keys() - set(agreement.survivors):
        for survivor in agreement.survivors:
            key = pair_key(secrets[name], name, survivor, agreement.parties)
            add_mask(result, key, -mask_sign(survivor, name), offset)
    return result


def mask_sign(name: str, other: str) -> int:
    """Whether a peer adds (1) or takes away (-1) the mask that it shares with another one."""
    return 1 if name < other else -1


def own_key(seed: bytes, name: str, parties: SecureSumParties) -> bytes:
    """The key of a peer's own mask."""
    return derive_key(seed, b"fednet own mask", parties.digest, name.encode())


def pair_key(private: bytes, name: str, other: str, parties: SecureSumParties) -> bytes:
    """The key of the mask of a pair of peers; the same from either side.

    Raises:
        PrivacyError: the other's key is none; names it.
    """
    try:
        secret = shared_secret(private, parties.keys[other].mask)
    except PrivacyError as error:
        raise PrivacyError(f"{other!r}: {error}", (other,)) from None
    return derive_key(secret, b"fednet pair mask", parties.digest, *(part.encode() for part in sorted((name, other))))


def commitment(seed: bytes, name: str, parameters: SecureSumParameters) -> bytes:
    """What a peer says of its seed beforehand."""
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
    """The secret as bytes, if it is what its owner advertised."""
    keys, parameters = agreement.parties.keys[dealer], agreement.parties.parameters
    if secret < 1 << 8 * KEY:
        plain = secret.to_bytes(KEY, "big")
        is_seed = agreement.kind(dealer) == "seed"
        if (commitment(plain, dealer, parameters) == keys.commitment) if is_seed else (public_key(plain) == keys.mask):
            return plain
    raise PrivacyError(
        f"the shares that {dealer!r} dealt are not of what it advertised: begin another attempt without it", (dealer,)
    )
