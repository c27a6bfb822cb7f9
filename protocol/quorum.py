"""When a step closes, and which peers contributed to it, were late or were lost.

A step is a query, a phase of a round or of an exchange, opened for the peers that are expected to contribute. Its
inputs are contributions and losses; its outcome at a time is to wait (and until when) or to close. Under `wait` only a
crash, a refusal or the hard limit removes a peer; under `survivors` the step also closes once a quorum has contributed
and the deadline that `DeadlineEstimator` learned from earlier contributions has passed. An outcome names all that are
missing.

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
    """When a step closes without all expected peers. Times are seconds.

    `wait`: only a crash, a refusal or the hard limit removes a peer from a step. `survivors`: a step also closes once
    a quorum has contributed and the deadline learned from earlier contributions (median + `mads` median absolute
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
    """Learns a deadline from the durations of contributions: median + `mads` median absolute deviations.

    Args:
        policy: with the floor of the deadline, and its value before there are `warm` durations.
        window: durations that are kept.
        warm: durations below which nothing is concluded from them.
    """

    def __init__(self, policy: QuorumPolicy, window: int = 64, warm: int = 8) -> None:
        self._policy = policy
        self._warm = warm
        self._durations: deque[float] = deque(maxlen=window)

    def record(self, seconds: float) -> None:
        """A contribution took so many seconds."""
        self._durations.append(seconds)

    def deadline(self) -> float:
        """Seconds after which a contribution is late, counted from the opening of its step."""
        if len(self._durations) < self._warm:
            return self._policy.cold_start
        middle = median(self._durations)
        spread = median(abs(duration - middle) for duration in self._durations)
        return max(self._policy.floor, middle + self._policy.mads * spread)


@dataclass(frozen=True)
class QuorumOutcome:
    """The state of a step.

    Attributes:
        closed: whether it is over.
        contributed: who contributed, sorted by name.
        late: who is alive but did not contribute before it closed, sorted.
        lost: who died, left or refused, with the reason.
        quorate: whether a quorum contributed.
        until: the next time at which it may close without an event, while it is open.
    """

    closed: bool
    contributed: tuple[str, ...]
    late: tuple[str, ...]
    lost: dict[str, str]
    quorate: bool
    until: float


@dataclass
class QuorumTracker:
    """One step, from its opening to its close.

    Attributes:
        expected: the peers that it waits for.
        opened: when it was opened.
        policy: when it closes without all of them.
        deadline: seconds after its opening; learned.
        enough: how many contributions close it at once; None waits for all.
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
        deadline = estimator.deadline() if policy.kind == "survivors" else inf
        return cls(frozenset(expected), now, policy, min(deadline, policy.hard_limit))

    def arrive(self, name: str, now: float) -> bool:
        """A contribution has arrived; False for one that is unexpected or a duplicate, and must be dropped."""
        if name not in self.expected or name in self._arrived or name in self._lost:
            return False
        self._arrived[name] = now - self.opened
        return True

    def lose(self, name: str, reason: str) -> bool:
        """A peer died, left or refused; False if it is not waited for: an earlier contribution of it counts."""
        if name not in self.expected or name in self._arrived or name in self._lost:
            return False
        self._lost[name] = reason
        return True

    def expect(self, name: str) -> None:
        """A further peer is waited for, or one that was lost and is back."""
        self.expected |= {name}
        self._lost.pop(name, None)

    def discount_pause(self, seconds: float) -> None:
        """Time in which this node itself stood still does not count."""
        self.opened += seconds

    def durations(self) -> Iterable[float]:
        """Seconds from the opening to each contribution."""
        return self._arrived.values()

    def may_close(self, now: float) -> bool:
        """Whether an event may have closed it; a cheap test before `outcome`."""
        return self._complete() or now >= self.opened + self.deadline

    def outcome(self, now: float) -> QuorumOutcome:
        """The state of the step at this time."""
        waiting = self.expected - self._arrived.keys() - self._lost.keys()
        soft, hard = self.opened + self.deadline, self.opened + self.policy.hard_limit
        quorate = len(self._arrived) >= max(1, self.policy.quorum)
        survivors = self.policy.kind == "survivors"
        closed = self._complete() or (survivors and quorate and now >= soft) or now >= hard
        return QuorumOutcome(
            closed=closed,
            contributed=tuple(sorted(self._arrived)),
            late=tuple(sorted(waiting)) if closed else (),
            lost=dict(sorted(self._lost.items())),
            quorate=quorate,
            until=soft if survivors and now < soft else hard,
        )

    def _complete(self) -> bool:
        """Whether no further contribution is waited for."""
        settled = len(self._arrived) + len(self._lost) >= len(self.expected)
        return settled or (self.enough is not None and len(self._arrived) >= self.enough)
