"""A step size for every site: it grows where the site's updates agree with the aggregate's, and shrinks otherwise.

The idea of the hypergradient (Baydin et al. 2018, arXiv 1703.04782), with rounds for steps: a site compares the change
that it contributed with the change that the round made. Both have been released, so this costs no privacy. The former
is kept on the disk, since the site may die between its contribution and the end of the round.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from torch import Tensor

from fednet.api import ModelState
from fednet.files import write_whole
from fednet.methods.common.checkpoint import read_checkpoint, write_checkpoint

GAIN, NEUTRAL_COSINE = 0.3, 0.5
"""How fast a rate follows, and the cosine at which it stays: a contribution agrees with a mean that it is part of."""
MIN_FACTOR, MAX_FACTOR = 0.25, 4.0
METADATA_KEY = "round"


def next_factor(rate: float, base: ModelState, own: ModelState, closed: ModelState) -> float:
    """The next factor of a site's step sizes, in [.25, 4].

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
    return min(MAX_FACTOR, max(MIN_FACTOR, rate * math.exp(GAIN * (cosine - NEUTRAL_COSINE))))


class AdaptiveStepSize:
    """The factors of one site, by model; kept in files, so that a restarted site goes on with its own.

    Args:
        folder: of the files, of one run; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "pace.json"
        stored = json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {}
        self._factors = {model: (float(rate), int(number)) for model, (rate, number) in stored.items()}

    def of(self, model: str) -> float:
        """The present factor; 1 at the beginning."""
        return self._factors.get(model, (1.0, 0))[0]

    def contributed(self, model: str, number: int, base: ModelState, own: ModelState) -> None:
        """Keeps what the site has contributed (`own`) to a round that began at `base`."""
        states = {"base": base, "own": own}
        named = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
        write_checkpoint(self._contribution(model), named, METADATA_KEY, str(number))

    def closed(self, model: str, number: int, closed: ModelState) -> None:
        """Updates the factor after a round, once for every round that the site contributed to.

        Raises:
            ModelError: what it contributed is damaged.
        """
        rate, before = self._factors.get(model, (1.0, 0))
        path = self._contribution(model)
        if number <= before or not path.is_file():
            return

        def parse(contributed: int, tensors: dict[str, Tensor]) -> float | None:
            if int(contributed) != number:
                return None
            base, own = ({name: tensors[f"{part}.{name}"] for name in closed} for part in ("base", "own"))
            return next_factor(rate, base, own, closed)

        factor = read_checkpoint(path, METADATA_KEY, parse, "remove it")
        if factor is not None:
            self._factors[model] = factor, number
            write_whole(self._path, json.dumps(self._factors).encode())

    def _contribution(self, model: str) -> Path:
        return self._folder / f"{model}.safetensors"
