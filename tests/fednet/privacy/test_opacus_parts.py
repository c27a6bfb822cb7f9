"""Opacus leaves the root logger as it was, and what is remembered of a step is what Opacus computes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fednet.privacy.opacus_parts import renyi

PROBE = "import logging, fednet.privacy.dp_sgd, fednet.privacy.accounting; assert not logging.getLogger().handlers"


def test_importing_adds_no_handler_to_the_root_logger(tmp_path: Path, warm_python: Any) -> None:
    """Not in this process, whose root logger has pytest's handlers: Opacus adds one where there is none."""
    (tmp_path / "probe.py").write_text(PROBE)
    with (tmp_path / "said").open("w+") as said:
        streams = {"stdout": said.fileno(), "stderr": said.fileno()}
        probe = warm_python.start([], cwd=tmp_path, env=os.environ, module="probe", **streams)
        assert probe.wait(100) == 0, (tmp_path / "said").read_text()


def test_a_step_costs_what_opacus_computes_and_is_computed_once() -> None:
    orders, compute = (1.5, 2, 8.7, 64), renyi._compute_rdp
    before = compute.cache_info().misses
    found = [list(renyi.compute_rdp(q=0.037, noise_multiplier=1.3, steps=7, orders=orders)) for _ in range(2)]
    assert compute.cache_info().misses == before + 4
    assert found[0] == found[1] == [7 * compute.__wrapped__(0.037, 1.3, order) for order in orders]
