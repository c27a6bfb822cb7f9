"""A step size of its own for every site: it grows where a site's changes agree with everybody's, and shrinks otherwise.

The idea of the hypergradient (Baydin et al. 2018, arXiv 1703.04782), with rounds for steps: a site compares the change
that it contributed with the change that came of the round. Both have been released, so this costs no privacy. Both lie
on the disk until then, for the site may die between its contribution and the end of the round.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.state import detached_copy
from fednet.files import write_whole

GAIN, NEUTRAL_COSINE = 0.3, 0.5
"""How fast a rate follows, and the cosine at which it stays: a contribution agrees with a mean that it is part of."""
MIN_FACTOR, MAX_FACTOR = 0.25, 4.0


def next_factor(rate: float, base: ModelState, own: ModelState, closed: ModelState) -> float:
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
    return min(MAX_FACTOR, max(MIN_FACTOR, rate * math.exp(GAIN * (cosine - NEUTRAL_COSINE))))


class AdaptiveStepSize:
    """The factors of one site, by model; kept in files, so that a site that comes again goes on with its own.

    Args:
        folder: of the files, of one run; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "pace.json"
        found = json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {}
        self._learnt = {model: (float(rate), int(number)) for model, (rate, number) in found.items()}

    def of(self, model: str) -> float:
        """The present factor; 1 at the beginning."""
        return self._learnt.get(model, (1.0, 0))[0]

    def sent(self, model: str, number: int, base: ModelState, own: ModelState) -> None:
        """The site has contributed `own` to a round that began at `base`."""
        states = {"base": base, "own": own}
        named = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
        write_whole(self._sent(model), save(detached_copy(named), {"round": str(number)}))

    def learn(self, model: str, number: int, closed: ModelState) -> None:
        """A round has closed: the factor follows, once for a round that the site contributed to.

        Raises:
            ModelError: what it contributed is damaged.
        """
        rate, before = self._learnt.get(model, (1.0, 0))
        if number <= before or not self._sent(model).is_file():
            return
        try:
            with safe_open(self._sent(model), "pt") as file:
                if int(file.metadata()["round"]) != number:
                    return
                base, own = ({name: file.get_tensor(f"{part}.{name}") for name in closed} for part in ("base", "own"))
                self._learnt[model] = next_factor(rate, base, own, closed), number
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{self._sent(model)} is damaged ({error}): remove it") from error
        write_whole(self._path, json.dumps(self._learnt).encode())

    def _sent(self, model: str) -> Path:
        return self._folder / f"{model}.safetensors"
