"""Who contributes to a round when not everybody does (McMahan et al. 2017, arXiv 1602.05629, the fraction C).

Refuses to know what a round is; every peer draws the same names from the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable

from fednet.seeds import derive


def sampled_participants(names: Iterable[str], share: float, seed: int, model: str, number: int) -> tuple[str, ...]:
    """Draws max(1, round(share * n)) of n names for round `number` of a model, uniformly without replacement.

    Every name has a rank of its own in every round and the first are drawn: one name more or less moves at most one
    of the others in or out, as long as the number that is drawn stays the same.

    Args:
        names: those who could contribute; their order does not matter.
        share: in (0, 1].
        seed: the run's.
        model: which model.
        number: which of its rounds, from 1.

    Returns:
        The drawn names, sorted; () of no names.
    """
    everybody = sorted(set(names))
    count = max(1, round(share * len(everybody)))
    ranked = sorted(everybody, key=lambda name: (derive(seed, "participation", model, number, name), name))
    return tuple(sorted(ranked[:count]))
