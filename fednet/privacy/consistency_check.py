"""Consistency check of a secure sum: signed votes for one set of survivors, before anything is revealed.

Bonawitz et al. 2017 (figure 4, round 3). Without it a leader that announces different survivors to different parties
collects both the keys and the seed of a party, although each party reveals one kind only. With it there is one set: two
would need 2t votes of n parties, each of which votes once.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fednet.errors import PrivacyError
from fednet.privacy.masking import length_prefixed
from fednet.privacy.secure_sum_setup import SurvivorSet

VOTE_BYTES = 64
"""Size of a vote."""


def sign_vote(agreement: SurvivorSet, name: str, signer: bytes) -> bytes:
    """A party's vote for a set of survivors, `VOTE_BYTES` bytes."""
    return Ed25519PrivateKey.from_private_bytes(signer).sign(_statement(agreement, name))


def require_vote(agreement: SurvivorSet, name: str, vote: bytes) -> None:
    """Verifies a party's vote.

    Raises:
        PrivacyError: it is not a sharer's, or not for this set; names the party.
    """
    if name not in agreement.sharers:
        raise PrivacyError(f"{name!r} votes on the survivors, but is not a sharer: exclude it", (name,))
    try:
        key = Ed25519PublicKey.from_public_bytes(agreement.parties.keys[name].sign)
        key.verify(vote, _statement(agreement, name))
    except (InvalidSignature, ValueError):
        raise PrivacyError(
            f"the vote of {name!r} is for other survivors, or not signed by it: exclude it",
            (name,),
        ) from None


def require_threshold_votes(agreement: SurvivorSet, votes: Mapping[str, bytes]) -> None:
    """Checks that at least a threshold of parties voted for a set, and none for another one.

    Raises:
        PrivacyError: too few votes, or an invalid one; names the party.
    """
    for name, vote in sorted(votes.items()):
        require_vote(agreement, name, vote)
    agreement.parties.parameters.require_enough(votes, "voted for the survivors")


def _statement(agreement: SurvivorSet, name: str) -> bytes:
    return length_prefixed(b"fednet vote", agreement.digest, name.encode())
