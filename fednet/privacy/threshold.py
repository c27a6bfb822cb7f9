"""How many parties a secure sum needs, and how many of them reveal shares. Imports no torch."""

from __future__ import annotations

MIN_PARTIES = 3
"""Smallest number of parties: in a sum of two, each learns the other's value by subtracting its own."""


def default_threshold(count: int) -> int:
    """More than two thirds, and at least `MIN_PARTIES`: up to a third of the parties may collude, a third may drop."""
    return max(MIN_PARTIES, 2 * count // 3 + 1)
