"""What a reduction of contributions is given, and how it ends where a member lies or is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fednet.federated.chunkwise import ChunkReduction
from fednet.federated.hash_tree import HashTree
from fednet.federated.state_file import Layout
from fednet.rules.contract import RuleSettings
from nodes.errors import PeerError
from protocol.messages.round_values import ContributionRef


class MemberUnavailable(PeerError):
    """A member is gone, or does not give what it has announced: its contribution, or its share of the result.

    Attributes:
        member: its name.
    """

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(reason)
        self.member = member


class ShardDiffers(PeerError):
    """A member's share of the result is not what its chunks of the contributions give.

    Attributes:
        owner: its name.
        chunk: the index of one that differs.
    """

    def __init__(self, owner: str, chunk: int) -> None:
        super().__init__(f"chunk {chunk} of the share of {owner} is not what the contributions give")
        self.owner, self.chunk = owner, chunk


@dataclass(frozen=True)
class ClosedContributions:
    """What is reduced in an attempt: the same at every member.

    Attributes:
        rule: how; None adds up masked contributions.
        contributions: of the members that count, by name.
        transcript: over the opening and all of them.
        leaves: of their hash trees, as their contributors have told them.
    """

    rule: RuleSettings | None
    contributions: Mapping[str, ContributionRef]
    transcript: str
    leaves: Mapping[str, bytes]

    @property
    def names(self) -> Sequence[str]:
        """The contributors in the order in which their chunks are combined."""
        return sorted(self.contributions)

    def tree(self, name: str) -> HashTree | None:
        """The hash tree of a contribution of one blob, if its contributor has told its leaves."""
        (blob,) = self.contributions[name].blobs
        return HashTree.confirmed(blob.digest, blob.size, self.leaves.get(name, b""))

    def reduction(self, layout: Layout) -> ChunkReduction:
        """How their chunks are combined.

        Raises:
            MethodError: they are too few for the rule.
        """
        return ChunkReduction(self.rule, layout, {name: each.weight for name, each in self.contributions.items()})
