"""A step size of its own for every site: it grows where a site's changes agree with everybody's, and shrinks otherwise.

The idea of the hypergradient (Baydin et al. 2018, arXiv 1703.04782), with rounds for steps: a site compares the change
that it contributed with the change that came of the round. Both have been released, so this costs no privacy.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from fednet.conversations import State
from fednet.files import write_whole

EAGER, NEUTRAL = 0.3, 0.5
"""How fast a rate follows, and the cosine at which it stays: a contribution agrees with a mean that it is part of."""
SLOWEST, FASTEST = 0.25, 4.0


def adapted(rate: float, base: State, own: State, closed: State) -> float:
    """A site's next factor for its step sizes, in [.25, 4].

    Args:
        rate: the present factor.
        base: where the round began.
        own: what the site contributed.
        closed: what the round left.
    """
    dot = ours = theirs = 0.0
    for name, start in base.items():
        if not start.is_floating_point():
            continue
        mine, whole = own[name].double() - start.double(), closed[name].double() - start.double()
        dot += float((mine * whole).sum())
        ours += float(mine.square().sum())
        theirs += float(whole.square().sum())
    if ours == 0.0 or theirs == 0.0:
        return rate
    cosine = dot / math.sqrt(ours * theirs)
    return min(FASTEST, max(SLOWEST, rate * math.exp(EAGER * (cosine - NEUTRAL))))


class Pace:
    """The factors of one site, by model; kept in a file, so that a site that comes again goes on with its own.

    Args:
        folder: of the file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "pace.json"
        self._rates: dict[str, float] = json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {}
        self._sent: dict[str, tuple[int, State, State]] = {}

    def of(self, model: str) -> float:
        """The present factor; 1 at the beginning."""
        return self._rates.get(model, 1.0)

    def sent(self, model: str, number: int, base: State, own: State) -> None:
        """The site has contributed `own` to a round that began at `base`."""
        self._sent[model] = number, base, own

    def learn(self, model: str, number: int, closed: State) -> None:
        """A round has closed: the factor follows, once for a round that the site contributed to."""
        given = self._sent.pop(model, None)
        if given is None or given[0] != number:
            return
        self._rates[model] = adapted(self.of(model), given[1], given[2], closed)
        write_whole(self._path, json.dumps(self._rates).encode())
