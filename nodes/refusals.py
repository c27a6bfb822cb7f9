"""Counts what is dropped or turned away, and logs it without end for nobody: a peer must not fill a disk with it."""

from __future__ import annotations

import logging
from collections import Counter

log = logging.getLogger(__name__)

LOGGED = 5
"""Refusals of a kind that are logged at first; of the later ones every thousandth."""

MAX_KINDS = 256
"""Kinds that are told apart; what comes after counts as `other`."""


class Refusals:
    """What was refused, by kind.

    Attributes:
        counts: how often.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, kind: str, why: str) -> None:
        """Counts a refusal, and logs it, the first few of a kind and then every thousandth."""
        kind = kind if kind in self.counts or len(self.counts) < MAX_KINDS else "other"
        self.counts[kind] += 1
        if self.counts[kind] <= LOGGED or self.counts[kind] % 1000 == 0:
            log.warning("dropped (%s, %d so far): %s", kind, self.counts[kind], why)
