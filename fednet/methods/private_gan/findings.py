"""What a run has measured so far: rounds, samples after some of them, privacy spent, the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fednet.api import RoundRecord
from fednet.methods.private_gan.messages import PrivacyStatement
from fednet.metrics.evaluation import Evaluation
from fednet.metrics.membership_inference import MembershipAttack


@dataclass(frozen=True)
class PrivateGanFrame:
    """The samples after a round, with their measures if any; round 0 is the untrained generator."""

    round: int
    evaluation: Evaluation | None = None

    def numbers(self) -> dict[str, Any]:
        """Round and measures in one mapping."""
        return {"round": self.round, **(asdict(self.evaluation) if self.evaluation else {})}


@dataclass(frozen=True)
class PrivateGanFindings:
    """What was measured so far.

    Attributes:
        frames: the samples after some rounds.
        rounds: the records of the GAN's rounds.
        classifier_rounds: the records of the classifier's rounds.
        privacy: every site's statement as it is now.
        audit: the AUC of membership attacks, by site.
        accuracy: of the classifier on test pictures, in [0, 1].
        stopped: why fewer rounds than planned were held.
    """

    frames: tuple[PrivateGanFrame, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    classifier_rounds: tuple[RoundRecord, ...] = ()
    privacy: Mapping[str, PrivacyStatement] = field(default_factory=dict)
    audit: Mapping[str, MembershipAttack] = field(default_factory=dict)
    accuracy: float | None = None
    stopped: str = ""

    @property
    def evaluations(self) -> tuple[tuple[int, Evaluation], ...]:
        """The round and the measures of the samples that were measured."""
        return tuple((frame.round, frame.evaluation) for frame in self.frames if frame.evaluation is not None)

    @property
    def private(self) -> bool:
        """Whether every site's pictures are protected by secret noise."""
        return bool(self.privacy) and all(statement.private for statement in self.privacy.values())
