"""Client sampling: which participants contribute to a round (McMahan et al. 2017, arXiv 1602.05629, the fraction C).

Every peer draws the same names from the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable

from fednet.seeds import derive


def sampled_participants(names: Iterable[str], share: float, seed: int, model: str, number: int) -> tuple[str, ...]:
    """Samples max(1, round(share * n)) of n names for round `number` of a model, uniformly without replacement.

    Names are ranked by a hash per round, and the first are taken: adding or removing a name changes at most one of the
    other sampled names, as long as the sample size stays the same.

    Args:
        names: candidates, in any order.
        share: in (0, 1].
        seed: the run's.
        model: name of the model.
        number: number of its round, from 1.

    Returns:
        The sampled names, sorted; () for no names.
    """
    candidates = sorted(set(names))
    count = max(1, round(share * len(candidates)))
    ranked = sorted(candidates, key=lambda name: (derive(seed, "participation", model, number, name), name))
    return tuple(sorted(ranked[:count]))
