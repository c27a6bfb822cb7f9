"""Step sizes of a site's own."""

from __future__ import annotations

from pathlib import Path

import torch

from fednet.methods.private_gan.pace import FASTEST, SLOWEST, Pace, adapted

BASE = {"w": torch.zeros(4), "n": torch.tensor(3)}
AHEAD, BACK = ({"w": sign * torch.ones(4), "n": torch.tensor(3)} for sign in (1.0, -1.0))


def test_who_pulls_where_all_go_steps_further_within_bounds() -> None:
    assert adapted(1.0, BASE, AHEAD, AHEAD) > 1.0 > adapted(1.0, BASE, BACK, AHEAD)
    assert adapted(1.0, BASE, BASE, AHEAD) == 1.0 == adapted(1.0, BASE, AHEAD, BASE)
    fast = slow = 1.0
    for _ in range(30):
        fast, slow = adapted(fast, BASE, AHEAD, AHEAD), adapted(slow, BASE, BACK, AHEAD)
    assert (fast, slow) == (FASTEST, SLOWEST)


def test_a_round_counts_once_and_is_remembered(tmp_path: Path) -> None:
    pace = Pace(tmp_path)
    pace.learn("gan", 1, AHEAD)
    assert pace.of("gan") == 1.0  # it had not contributed
    pace.sent("gan", 2, BASE, AHEAD)
    pace.learn("gan", 2, AHEAD)
    once = pace.of("gan")
    pace.learn("gan", 2, AHEAD)
    assert pace.of("gan") == once == Pace(tmp_path).of("gan") > 1.0
    pace.sent("gan", 3, BASE, AHEAD)
    pace.learn("gan", 4, AHEAD)
    assert pace.of("gan") == once
