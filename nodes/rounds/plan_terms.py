"""What a plan's federation means for the leader of its rounds."""

from __future__ import annotations

from dataclasses import dataclass

from fednet.federated.config import Federation
from fednet.federated.participation import sampled_participants
from fednet.privacy.threshold import default_threshold


@dataclass(frozen=True)
class FederationTerms:
    """The terms of a plan, for `protocol.machines.coordinator`.

    Attributes:
        federation: how contributions are aggregated.
        seed: of the draw of contributors.
    """

    federation: Federation
    seed: int

    @property
    def quorum(self) -> int:
        """Fewest contributions of a round."""
        return self.federation.quorum

    @property
    def enough(self) -> int | None:
        """How many contributions close a round at once; None waits for all."""
        return self.federation.buffer.size if self.federation.buffer is not None else None

    def sharded(self, members: int) -> bool:
        """Whether a round of so many members is reduced in shards."""
        return self.federation.sharded(members)

    def threshold(self, contributors: int) -> int:
        """How many of so many contributors it takes to unmask their sum; 0 where it is not masked."""
        secure = self.federation.secure
        return 0 if secure is None else secure.threshold or default_threshold(contributors)

    def drawn(self, members: tuple[str, ...], model: str, number: int) -> tuple[str, ...]:
        """Those of the members that are to contribute to a round."""
        return sampled_participants(members, self.federation.participation, self.seed, model, number)
