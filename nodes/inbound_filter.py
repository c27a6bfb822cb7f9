"""Inbound filter: drops malformed, unauthenticated or rate-limited messages.

Combines `protocol.security.authentication` (who sent it) with `protocol.security.quarantine` (whether that peer is
heard). Without keys a sender's name is its own claim, so any publisher could have another peer quarantined: quarantine
protects from faulty peers then, and with keys from hostile ones. Does not know what a message means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from protocol.errors import AuthenticationError, WireError
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.security.authentication import Security, VerifiedMessage
from protocol.security.quarantine import Quarantine, RateLimit


class InboundFilter:
    """The way in to one node.

    Args:
        security: makes sure of senders.
        counts: what was dropped, by kind.
        refused: told of each message that is dropped: its kind and why.
        barred: told of each peer that is quarantined: its name and why.
        limits: what is accepted of one message.
        allowance: what one peer may do.
    """

    def __init__(
        self,
        security: Security,
        counts: Counter[str],
        refused: Callable[[str, str], None],
        barred: Callable[[str, str], None],
        *,
        limits: Limits,
        allowance: RateLimit | None = None,
    ) -> None:
        self._security = security
        self._limits = limits
        self._counts = counts
        self._refused = refused
        self._barred = barred
        self._quarantine = Quarantine(allowance)

    def read(self, frames: Sequence[Buffer], now: float, *, again: bool = False) -> VerifiedMessage | None:
        """The message in frames that came, if it is to be heard; `again` for what a `Retransmission` carries."""
        if self._quarantine.is_active(now) and self._quarantine.is_quarantined(
            self._security.claimed_sender(frames), now
        ):
            self._counts["quarantined"] += 1
            return None
        try:
            heard = self._security.read(frames, self._limits, again=again)
        except WireError as error:
            self._drop(error, now)
            return None
        sender = heard.envelope.sender
        if not again and not self._quarantine.within_rate(sender, sum(map(len, frames)), now):
            self.fault(sender, "too much", f"{sender} says more than a peer may", now)
            return None
        return heard

    def fault(self, culprit: str | None, kind: str, why: str, now: float) -> None:
        """A message is dropped for what its sender did wrong; whoever does so again and again is quarantined."""
        self._refused(kind, why)
        seconds = self._quarantine.record_fault(culprit, now) if culprit is not None else None
        if culprit is not None and seconds is not None:
            self._barred(culprit, f"quarantined for {seconds:.0f} s: {why}"[:500])

    def faults(self) -> Mapping[str, int]:
        """How many faults each peer has been found guilty of; of the latest peers, as many as are tracked."""
        return self._quarantine.faults()

    def _drop(self, error: WireError, now: float) -> None:
        if isinstance(error, AuthenticationError) and error.kind == "early":
            self._counts["early"] += 1
        else:
            kind = error.kind if isinstance(error, AuthenticationError) else "malformed"
            self.fault(error.culprit, kind, str(error), now)
