"""What a site asks of every round at least, by its own configuration: a plan may be stricter and never laxer.

Any node may request rounds, and a leader opens them; so a site holds each plan against its floor before it contributes,
and the survivors of a sum before it reveals shares. The aggregation rule is no part of it: it protects the model, which
a majority votes for, and nothing of a site's data. Knows no network and no method: a method whose plans differ from its
`federation` settings, or whose privacy asks for more, says so (`HasFloor`). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from fednet.federated.config import Federation, Secure, ServerConfig


@dataclass(frozen=True)
class Floor:
    """The least that a site asks of a round.

    Attributes:
        secure: behind a secure sum only, with at most this clip and at least this threshold (None: the usual one).
        quorum: contributions of a round, and survivors of a secure sum.
        shares_noise: whether each contribution carries a part of the sum's noise. Then all must count the same, so that
            nobody's outweighs the others' noise, and the clip of a secure sum is exactly this site's, since a lower one
            would cut the noise off.
        audit: fraction of the chunks of others' shares that this site reduces again.
        participation: least fraction of the live peers that is sampled for a secure round. Sums of other contributors
            to nearly the same state would together tell single contributions.
        servers: optimisers of secure rounds; None: any. Another one may keep the state as it is.
    """

    secure: Secure | None = None
    quorum: int = 1
    shares_noise: bool = False
    audit: float = 0.0
    participation: float = 0.0
    servers: tuple[ServerConfig, ...] | None = None

    @classmethod
    def of(cls, *federations: Federation) -> Floor:
        """What all these federations grant, which are the ones that a method's own job requests."""
        secures = [each.secure for each in federations if each.secure is not None]
        quorum = min((each.quorum for each in federations), default=1)
        audit = max((each.audit for each in federations), default=0.0)
        if not secures:
            return cls(quorum=quorum, audit=audit)
        thresholds = [each.threshold for each in secures]
        least = None if None in thresholds else min(filter(None, thresholds))
        secure = Secure(clip=max(each.clip for each in secures), threshold=least)
        participation, servers = min(each.participation for each in federations), [each.server for each in federations]
        return cls(secure, quorum, audit=audit, participation=participation, servers=tuple(servers))

    def undercut_by(self, federation: Federation, usual_threshold: int) -> str | None:
        """How a plan is laxer than this site's configuration, in one sentence; None if it is not.

        Args:
            federation: of the plan.
            usual_threshold: of a secure sum of the round's contributors, where none is configured.
        """
        if federation.quorum < self.quorum:
            return f"a quorum of {federation.quorum} was asked for, and this site's is {self.quorum}"
        if self.secure is None:
            return None
        if federation.secure is None:
            return "rounds without `secure` were asked for, and this site contributes behind a secure sum only"
        if (asked := federation.participation) < self.participation:
            return f"a participation of {asked:g} was asked for, and this site's is {self.participation:g}"
        if self.servers is not None and federation.server not in self.servers:
            return f"another server optimiser ({federation.server.kind}) was asked for than this site's"
        return self._sum_undercut_by(federation.secure, self.secure, usual_threshold)

    def _sum_undercut_by(self, asked: Secure, own: Secure, usual_threshold: int) -> str | None:
        if asked.clip > own.clip:
            return f"a secure sum with clip {asked.clip:g} was asked for, and this site's is {own.clip:g}"
        if asked.clip < own.clip and self.shares_noise:
            return (
                f"a secure sum with clip {asked.clip:g} was asked for, which would cut off the noise in this site's "
                f"contributions: its own is {own.clip:g}"
            )
        threshold, least = (each.threshold or usual_threshold for each in (asked, own))
        if threshold < least:
            return f"a secure sum with threshold {threshold} was asked for, and this site's is {least}"
        return None


@runtime_checkable
class HasFloor(Protocol):
    """Settings of a method that know their floor."""

    def floor(self) -> Floor:
        """What a site with these settings asks of every round at least."""


def floor_of(settings: BaseModel) -> Floor:
    """The floor of a site with a method's settings: as they say, or of every `Federation` among them."""
    return settings.floor() if isinstance(settings, HasFloor) else Floor.of(*_federations(settings))


def _federations(settings: BaseModel) -> Iterator[Federation]:
    for name in type(settings).model_fields:
        part = getattr(settings, name)
        if isinstance(part, Federation):
            yield part
        elif isinstance(part, BaseModel):
            yield from _federations(part)
