"""When an exchange is over, and who had a part in it: the ledger that its asker keeps.

It has two phases, each a step with its own policy (`protocol.quorum`). First everybody does the call's work and offers;
then everybody who has offered absorbs what the others offer. Nobody waits for the dead, nor for anybody to absorb what
the dead have offered: parts of it may be lost for good.

Pure: knows no network, no words and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocol.messages.exchange import OfferList
from protocol.quorum import DeadlineEstimator, QuorumOutcome, QuorumPolicy, QuorumTracker


@dataclass(frozen=True)
class ExchangeProgress:
    """How an exchange stands.

    Attributes:
        closed: whether it is over.
        quorate: whether as many have offered as the policy asks for, and somebody has absorbed all there is.
        absorbing: whether what is offered is being absorbed.
        done: peers that need not be waited for any more in the present phase.
        expected: peers that this phase is about.
        until: when to look again at the latest, while it is open.
    """

    closed: bool
    quorate: bool
    absorbing: bool
    done: int
    expected: int
    until: float


@dataclass
class ExchangeTracker:
    """One exchange's ledger, from its call to its close.

    Attributes:
        policy: when a phase goes on without everybody.
        offering: who is waited for to offer.
        estimators: how long peers usually take to offer and to absorb.
        absorbing: who is waited for to absorb; None until everybody has offered.
        offers: what was offered, by origin: also by peers that nobody waited for, if they came in time.
        verdicts: why each peer has refused which offers, by origin, once it is done with that origin's.
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

    def offered(self, name: str, said: OfferList, now: float) -> None:
        """A peer has offered all that it offers; it counts while others are waited for to, even if it was gone."""
        if self.absorbing is None:
            self.offers[name] = said
            self.departed.pop(name, None)
            self.offering.arrive(name, now)

    def absorbed(self, name: str, origin: str, refused: Mapping[str, str], now: float) -> None:
        """A peer is done with all that an origin offers."""
        self.verdicts.setdefault(name, {}).setdefault(origin, refused)
        self._settle(now)

    def lose(self, name: str, reason: str, now: float) -> None:
        """A peer died, left or declined."""
        self.departed[name] = reason
        self.offering.lose(name, reason)
        if self.absorbing is not None:
            self.absorbing.lose(name, reason)
        self._settle(now)

    def discount_pause(self, seconds: float) -> None:
        """Time in which the asker itself stood still does not count."""
        (self.absorbing or self.offering).discount_pause(seconds)

    def progress(self, now: float) -> ExchangeProgress:
        """How the exchange stands at this time; the second phase begins when the first one is found closed."""
        first = self.offering.outcome(now)
        if self.absorbing is None and first.closed and first.quorate:
            self._begin_absorbing(now)
        if self.absorbing is None:
            return _stand(first, self.offering, quorate=False, absorbing=False)
        quorate = any(self._complete(name) for name in self.offers)
        return _stand(self.absorbing.outcome(now), self.absorbing, quorate=quorate, absorbing=True)

    def late(self, now: float) -> tuple[str, ...]:
        """Who is alive but was not done before it closed, sorted."""
        steps = [self.offering] if self.absorbing is None else [self.offering, self.absorbing]
        missing = {name for step in steps for name in step.outcome(now).late}
        return tuple(sorted(name for name in missing - self.departed.keys() if not self._complete(name)))

    def lost(self) -> dict[str, str]:
        """Who died, left or declined, and was not done by then nor after coming back, with the reason."""
        return {name: reason for name, reason in sorted(self.departed.items()) if not self._complete(name)}

    def record_durations(self) -> None:
        """The paces learn from it, once it is closed."""
        for step, pace in zip((self.offering, self.absorbing), self.estimators, strict=True):
            for seconds in step.durations() if step is not None else ():
                pace.record(seconds)

    def _begin_absorbing(self, now: float) -> None:
        alive = [name for name in self.offers if name not in self.departed]
        self.absorbing = QuorumTracker.open(alive, now, self.policy, self.estimators[1])
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Whoever is done with the offers of everybody who is alive is not waited for any more."""
        if self.absorbing is not None:
            for name in self.absorbing.expected:
                if self._complete(name):
                    self.absorbing.arrive(name, now)

    def _complete(self, name: str) -> bool:
        """Whether a peer has offered, and is done with what is offered by all others who are still there."""
        wanted = self.offers.keys() - self.departed.keys() - {name}
        return name in self.offers and wanted <= self.verdicts.get(name, {}).keys()


def _stand(outcome: QuorumOutcome, step: QuorumTracker, *, quorate: bool, absorbing: bool) -> ExchangeProgress:
    expected = len(step.expected)
    done = len(outcome.contributed) + len(outcome.lost)
    return ExchangeProgress(outcome.closed, quorate, absorbing, done, expected, outcome.until)
