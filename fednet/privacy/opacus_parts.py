"""What is used of Opacus, imported without the handler that it puts on the root logger.

Opacus calls `logging.basicConfig` while it is imported, after which every message of every package is written twice.
Its PRV accountant computes Renyi's divergence of one step, at 150 orders, anew for every epsilon, which takes three
quarters of the time or more; it depends on the rate and the noise alone, and is remembered here.
Nothing else stands here. Opacus: Yousefpour et al. 2021, arXiv 2109.12298.
"""

from __future__ import annotations

import logging
from functools import lru_cache

_there = list(logging.getLogger().handlers)

from opacus.accountants import PRVAccountant, RDPAccountant  # noqa: E402
from opacus.accountants.analysis import rdp as renyi  # noqa: E402
from opacus.grad_sample import GradSampleModule  # noqa: E402
from opacus.validators import ModuleValidator  # noqa: E402

for _handler in list(logging.getLogger().handlers):
    if _handler not in _there:
        logging.getLogger().removeHandler(_handler)

renyi._compute_rdp = lru_cache(maxsize=10_000)(renyi._compute_rdp)  # noqa: SLF001 - its only place

__all__ = ["GradSampleModule", "ModuleValidator", "PRVAccountant", "RDPAccountant", "renyi"]
