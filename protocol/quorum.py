"""Who contributed to one step, who was late and who was lost, and when the step may close.

A step is opened for the peers that are expected; arrivals, losses and the passing of time are told to it, and it
says whether to wait on (and until when) or to close. Under `wait` only death, a refusal or the hard limit removes
a peer; under `survivors` the step also closes once a quorum has contributed and the deadline that `Pace` learned
from earlier arrivals has passed. A partial step never calls itself complete.

Pure: knows no network and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class QuorumPolicy(BaseModel):
    """When a step goes on without everybody. Times are seconds.

    `wait`: only death, a refusal or the hard limit removes a peer from a step. `survivors`: a step also closes once
    a quorum has contributed and the deadline learned from earlier arrivals (median + `mads` median absolute
    deviations, never below `floor`) has passed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["wait", "survivors"] = "wait"
    quorum: int = Field(1, ge=1, description="fewest contributors of a step")
    hard_limit: float = Field(60.0, gt=0, description="longest a step waits for a living peer")
    floor: float = Field(0.2, gt=0, description="shortest learned deadline")
    cold_start: float = Field(10.0, gt=0, description="deadline before anything is learned")
    mads: float = Field(6.0, gt=0, description="deviations above the median arrival that are still in time")


class DeadlineEstimator:
    """Learns how long peers usually take, to tell late from lost: median + `mads` median absolute deviations."""

    def __init__(self, policy: QuorumPolicy, window: int = 64, warm: int = 8) -> None:
        self._policy = policy
        self._warm = warm
        self._taken: deque[float] = deque(maxlen=window)

    def record(self, seconds: float) -> None:
        """A contribution took this long."""
        self._taken.append(seconds)

    def deadline(self) -> float:
        """Seconds after which a contribution is late, counted from the opening of its step."""
        if len(self._taken) < self._warm:
            return self._policy.cold_start
        middle = median(self._taken)
        spread = median(abs(taken - middle) for taken in self._taken)
        return max(self._policy.floor, middle + self._policy.mads * spread)


@dataclass(frozen=True)
class QuorumOutcome:
    """How a step stands.

    Attributes:
        closed: whether it is over.
        contributed: who contributed, sorted by name.
        late: who is alive but did not contribute before it closed, sorted.
        lost: who died, left or refused, with the reason.
        quorate: whether enough peers contributed.
        until: when to look again at the latest, while it is open.
    """

    closed: bool
    contributed: tuple[str, ...]
    late: tuple[str, ...]
    lost: dict[str, str]
    quorate: bool
    until: float


@dataclass
class QuorumTracker:
    """One step's ledger, from its opening to its close.

    Attributes:
        expected: who is waited for.
        opened: when it was opened.
        policy: when it goes on without everybody.
        deadline: seconds after its opening; learned.
        enough: how many contributions close it at once; None waits for everybody.
    """

    expected: frozenset[str]
    opened: float
    policy: QuorumPolicy
    deadline: float
    enough: int | None = None
    _arrived: dict[str, float] = field(default_factory=dict)
    _lost: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, expected: Iterable[str], now: float, policy: QuorumPolicy, estimator: DeadlineEstimator
    ) -> QuorumTracker:
        """Opens a step for these peers with the learned deadline."""
        hasty = policy.kind == "survivors"
        return cls(frozenset(expected), now, policy, min(estimator.deadline() if hasty else inf, policy.hard_limit))

    def arrive(self, name: str, now: float) -> bool:
        """A contribution has come; False for one that is unexpected or a duplicate and must be dropped."""
        if name not in self.expected or name in self._arrived or name in self._lost:
            return False
        self._arrived[name] = now - self.opened
        return True

    def lose(self, name: str, reason: str) -> bool:
        """A peer died, left or refused; False if nobody waits for it: what it had already contributed counts."""
        if name not in self.expected or name in self._arrived or name in self._lost:
            return False
        self._lost[name] = reason
        return True

    def discount_pause(self, seconds: float) -> None:
        """Time in which the asker itself stood still does not count."""
        self.opened += seconds

    def durations(self) -> Iterable[float]:
        """Seconds that each contribution took."""
        return self._arrived.values()

    def may_close(self, now: float) -> bool:
        """Whether an arrival or a loss can have closed it; until then `outcome` need not be asked."""
        return self._full() or now >= self.opened + self.deadline

    def outcome(self, now: float) -> QuorumOutcome:
        """How the step stands at this time."""
        waiting = self.expected - self._arrived.keys() - self._lost.keys()
        soft, hard = self.opened + self.deadline, self.opened + self.policy.hard_limit
        quorate = len(self._arrived) >= max(1, self.policy.quorum)
        hasty = self.policy.kind == "survivors"
        closed = self._full() or (hasty and quorate and now >= soft) or now >= hard
        return QuorumOutcome(
            closed=closed,
            contributed=tuple(sorted(self._arrived)),
            late=tuple(sorted(waiting)) if closed else (),
            lost=dict(sorted(self._lost.items())),
            quorate=quorate,
            until=soft if hasty and now < soft else hard,
        )

    def _full(self) -> bool:
        """Whether nothing is left to wait for."""
        settled = len(self._arrived) + len(self._lost) >= len(self.expected)
        return settled or (self.enough is not None and len(self._arrived) >= self.enough)
