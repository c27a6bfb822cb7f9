"""Rounds and secure sums among liars, seed after seed, until the time is over or something is found.

    python -m tests.soak.byzantine [--seconds 60] [--first 0] [--sums]      # many seeds, with counts in the end
    python -m tests.soak.byzantine --seed 7 [--sums]                        # one again

Ends with 1 where a run violates what `tests/byzantine/simulation.py` lists; its seed plays it again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter

from tests.byzantine.scenario import Violation
from tests.byzantine.simulation import simulate
from tests.byzantine.sums import simulate_sums


def main() -> int:
    """Plays seeds; 1 where one violates something."""
    parser = argparse.ArgumentParser(description="Rounds among liars.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--sums", action="store_true", help="secure rounds, with real keys and masks")
    options = parser.parse_args()
    end, told, found = time.monotonic() + options.seconds, Counter[str](), 0
    seeds = itertools.count(options.first) if options.seed is None else (options.seed,)
    for seed in seeds:
        if time.monotonic() > end:
            break
        try:
            told.update(simulate_sums(seed) if options.sums else simulate(seed))
        except Violation as violation:
            found += 1
            sys.stdout.write(f"{violation}\n\n")
    sys.stdout.write("".join(f"{count:9d}  {what}\n" for what, count in sorted(told.items())))
    sys.stdout.write(f"{found:9d}  violations\n")
    return found > 0


if __name__ == "__main__":
    sys.exit(main())
