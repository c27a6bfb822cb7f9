"""When an exchange is over, and which peers took part: the state that its requester keeps.

It has two phases, each a step with its own policy (`protocol.quorum`). First every peer does the task and offers; then
every peer that has offered absorbs the offers of the others. A departed peer is not waited for, and neither are the
verdicts on its offers, of which some may be lost.

Pure: knows no network, no embeddings and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocol.messages.exchange import OfferList
from protocol.quorum import DeadlineEstimator, QuorumOutcome, QuorumPolicy, QuorumTracker


@dataclass(frozen=True)
class ExchangeProgress:
    """The state of an exchange.

    Attributes:
        closed: whether it is over.
        quorate: whether a quorum has offered, and at least one peer has absorbed all offers.
        absorbing: whether it is in the second phase.
        done: peers of the present phase that are not waited for any more.
        expected: peers of the present phase.
        until: the next time at which it may close without an event, while it is open.
    """

    closed: bool
    quorate: bool
    absorbing: bool
    done: int
    expected: int
    until: float


@dataclass
class ExchangeTracker:
    """One exchange, from its request to its close.

    Attributes:
        policy: when a phase closes without all peers.
        offering: the first phase.
        estimators: of the deadlines of both phases.
        absorbing: the second phase; None until the first is closed.
        offers: the lists of offers by origin, those of unexpected peers included if they are in time.
        verdicts: by peer and origin, the offers that it rejected, with the reason.
        departed: who died, left or declined, and did not offer after coming back, with the reason.
    """

    policy: QuorumPolicy
    offering: QuorumTracker
    estimators: tuple[DeadlineEstimator, DeadlineEstimator]
    absorbing: QuorumTracker | None = None
    offers: dict[str, OfferList] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Mapping[str, str]]] = field(default_factory=dict)
    departed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        expected: Iterable[str],
        now: float,
        policy: QuorumPolicy,
        estimators: tuple[DeadlineEstimator, DeadlineEstimator],
    ) -> ExchangeTracker:
        """Opens an exchange between these peers."""
        return cls(policy, QuorumTracker.open(expected, now, policy, estimators[0]), estimators)

    def offered(self, name: str, offers: OfferList, now: float) -> None:
        """A peer has completed its offers; they count in the first phase, even if it had departed."""
        if self.absorbing is None:
            self.offers[name] = offers
            self.departed.pop(name, None)
            self.offering.arrive(name, now)

    def absorbed(self, name: str, origin: str, refused: Mapping[str, str], now: float) -> None:
        """A peer has absorbed or rejected every offer of an origin."""
        self.verdicts.setdefault(name, {}).setdefault(origin, refused)
        self._count_complete(now)

    def lose(self, name: str, reason: str, now: float) -> None:
        """A peer died, left or declined."""
        self.departed[name] = reason
        self.offering.lose(name, reason)
        if self.absorbing is not None:
            self.absorbing.lose(name, reason)
        self._count_complete(now)

    def discount_pause(self, seconds: float) -> None:
        """Time in which this node itself stood still does not count."""
        (self.absorbing or self.offering).discount_pause(seconds)

    def progress(self, now: float) -> ExchangeProgress:
        """The state of the exchange at this time; the second phase opens once the first is closed."""
        first = self.offering.outcome(now)
        if self.absorbing is None and first.closed and first.quorate:
            self._open_absorbing(now)
        if self.absorbing is None:
            return _progress(first, self.offering, quorate=False, absorbing=False)
        quorate = any(self._complete(name) for name in self.offers)
        return _progress(self.absorbing.outcome(now), self.absorbing, quorate=quorate, absorbing=True)

    def late(self, now: float) -> tuple[str, ...]:
        """The peers that are alive but were not done before it closed, sorted."""
        steps = [self.offering] if self.absorbing is None else [self.offering, self.absorbing]
        missing = {name for step in steps for name in step.outcome(now).late}
        return tuple(sorted(name for name in missing - self.departed.keys() if not self._complete(name)))

    def lost(self) -> dict[str, str]:
        """The peers that died, left or declined before they were done, with the reason."""
        return {name: reason for name, reason in sorted(self.departed.items()) if not self._complete(name)}

    def record_durations(self) -> None:
        """Feeds the estimators, once it is closed."""
        for step, estimator in zip((self.offering, self.absorbing), self.estimators, strict=True):
            for seconds in step.durations() if step is not None else ():
                estimator.record(seconds)

    def _open_absorbing(self, now: float) -> None:
        alive = [name for name in self.offers if name not in self.departed]
        self.absorbing = QuorumTracker.open(alive, now, self.policy, self.estimators[1])
        self._count_complete(now)

    def _count_complete(self, now: float) -> None:
        """A peer that is done with the offers of all living peers is not waited for any more."""
        if self.absorbing is not None:
            for name in self.absorbing.expected:
                if self._complete(name):
                    self.absorbing.arrive(name, now)

    def _complete(self, name: str) -> bool:
        """Whether a peer has offered, and is done with the offers of all others that are alive."""
        wanted = self.offers.keys() - self.departed.keys() - {name}
        return name in self.offers and wanted <= self.verdicts.get(name, {}).keys()


def _progress(outcome: QuorumOutcome, step: QuorumTracker, *, quorate: bool, absorbing: bool) -> ExchangeProgress:
    expected = len(step.expected)
    done = len(outcome.contributed) + len(outcome.lost)
    return ExchangeProgress(outcome.closed, quorate, absorbing, done, expected, outcome.until)
