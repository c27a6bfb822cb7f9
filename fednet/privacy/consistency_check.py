"""A signed word for one set of survivors: nobody reveals anything before as many peers as the threshold gave theirs.

The consistency check of Bonawitz et al. 2017 (figure 4, round 3). Without it a lead that tells every peer of other
survivors collects the keys of many peers and the seed of one, from peers each of which reveals one kind only. With it
there is one set: two would need 2t votes of n peers, each of whom votes once. Refuses to know whether a set is true.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fednet.errors import PrivacyError
from fednet.privacy.masking import length_prefixed
from fednet.privacy.secure_sum_setup import SurvivorSet

VOTE_BYTES = 64
"""The bytes of a vote."""


def sign_vote(agreement: SurvivorSet, name: str, signer: bytes) -> bytes:
    """A peer's vote for an agreement, `VOTE_BYTES` bytes."""
    return Ed25519PrivateKey.from_private_bytes(signer).sign(_statement(agreement, name))


def require_vote(agreement: SurvivorSet, name: str, vote: bytes) -> None:
    """Checks another peer's vote.

    Raises:
        PrivacyError: it is no sharer's, or not for this agreement; names the peer.
    """
    if name not in agreement.sharers:
        raise PrivacyError(f"{name!r} votes on the survivors, but has not shared: leave it out", (name,))
    try:
        key = Ed25519PublicKey.from_public_bytes(agreement.parties.keys[name].sign)
        key.verify(vote, _statement(agreement, name))
    except (InvalidSignature, ValueError):
        raise PrivacyError(
            f"the vote of {name!r} is not for the survivors that were agreed on here, or not its own: leave it out",
            (name,),
        ) from None


def require_threshold_votes(agreement: SurvivorSet, votes: Mapping[str, bytes]) -> None:
    """Checks that enough peers voted for an agreement, and nobody for another one.

    Raises:
        PrivacyError: too few votes, or a false one; names whose.
    """
    for name, vote in sorted(votes.items()):
        require_vote(agreement, name, vote)
    agreement.parties.parameters.require_enough(votes, "agreed on the survivors")


def _statement(agreement: SurvivorSet, name: str) -> bytes:
    return length_prefixed(b"fednet vote", agreement.digest, name.encode())
