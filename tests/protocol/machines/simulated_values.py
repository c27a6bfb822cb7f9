"""What the members of a simulation have: a plan, its terms, no keys, and a disk that survives their deaths."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import BlobRef, ModelVersion, RoundPlanMessage
from protocol.messages.rounds import RoundCommit
from protocol.rounds import version_after

ROUNDS = 3
PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=ROUNDS, federation="{}", options={})
INITIAL = BlobRef(digest="0" * 64, size=1)


class Keyless:
    """Signs nothing."""

    run = "run"

    def attest(self, _statement: bytes) -> bytes:
        return b""

    def attested(self, _name: str, _statement: bytes, signature: bytes) -> bool:
        return not signature


@dataclass(frozen=True)
class Terms:
    """Of the plan."""

    is_sharded: bool
    quorum: int = 1
    enough: int | None = None

    def sharded(self, _members: int) -> bool:
        return self.is_sharded

    def threshold(self, _contributors: int) -> int:
        return 0

    def drawn(self, members: tuple[str, ...], _model: str, _number: int) -> tuple[str, ...]:
        return members


@dataclass
class Disk:
    """What survives a death; `done` counts the rounds of each plan that have closed."""

    term: int = 0
    record: RoundCommit | None = None
    vote: AcceptedVote | None = None
    done: dict[str, int] = field(default_factory=dict)

    @property
    def version(self) -> ModelVersion:
        return version_after(self.record) if self.record else ModelVersion(number=0, outcome=INITIAL)

    @property
    def records(self) -> dict[str, RoundCommit]:
        return {"m": self.record} if self.record else {}

    @property
    def votes(self) -> dict[str, AcceptedVote]:
        return {"m": self.vote} if self.vote else {}
