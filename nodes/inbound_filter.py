"""Inbound filter: drops malformed or unauthenticated messages, and what is beyond its sender's budget.

Combines `protocol.security.authentication` (who sent it) with `nodes.accounts` (what that peer may cost, and whether it
is heard). A message is charged before it is decrypted or decoded: to the peer whose key the other end of its connection
has proven, or else, where it came through a relay, to the sender that it claims. Without keys a sender's name is its
own claim, so any publisher could have another peer quarantined: quarantine protects from faulty peers then, and with
keys from hostile ones. Does not know what a message means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nodes.accounts import Accounts
from protocol.errors import AuthenticationError, WireError
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.security.authentication import Security, VerifiedMessage
from protocol.security.budget import Cost


class InboundFilter:
    """The way in to one node.

    Args:
        security: makes sure of senders.
        accounts: what each peer may cost, and who is quarantined.
        counts: what was dropped, by kind, that is nobody's fault.
        limits: what is accepted of one message.
    """

    def __init__(self, security: Security, accounts: Accounts, counts: Counter[str], limits: Limits) -> None:
        self._security = security
        self._accounts = accounts
        self._counts = counts
        self._limits = limits

    def read(
        self, frames: Sequence[Buffer], now: float, *, origin: str = "", again: bool = False
    ) -> VerifiedMessage | None:
        """The message in frames that came, if it is to be heard.

        Args:
            frames: that came.
            now: seconds.
            origin: the peer that has proven its key at the other end of the connection; empty where nobody has.
            again: whether a `Retransmission` carried them, which was charged itself.
        """
        payer = origin or self._security.claimed_sender(frames)
        if self._is_quarantined(payer, frames, now):
            self._counts["quarantined"] += 1
            return None
        if payer and not again and not self._affords(payer, frames, now, proven=bool(origin)):
            return None
        try:
            return self._security.read(frames, self._limits, again=again)
        except WireError as error:
            self._drop(error, now)
            return None

    def _is_quarantined(self, payer: str | None, frames: Sequence[Buffer], now: float) -> bool:
        """Whether the payer, or whom the frames claim to be from, is in quarantine."""
        return self._accounts.is_active(now) and (
            self._accounts.is_quarantined(payer, now)
            or self._accounts.is_quarantined(self._security.claimed_sender(frames), now)
        )

    def _affords(self, payer: str, frames: Sequence[Buffer], now: float, *, proven: bool) -> bool:
        size, charge = sum(map(len, frames)), self._accounts.charge
        return charge(payer, Cost.MESSAGES, 1, now, proven=proven) and charge(
            payer, Cost.RECEIVED, size, now, proven=proven
        )

    def _drop(self, error: WireError, now: float) -> None:
        if isinstance(error, AuthenticationError) and error.kind == "early":
            self._counts["early"] += 1
        else:
            kind = error.kind if isinstance(error, AuthenticationError) else "malformed"
            self._accounts.fault(error.culprit, kind, str(error), now)
