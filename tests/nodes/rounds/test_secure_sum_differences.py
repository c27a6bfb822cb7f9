"""Open: secure sums of nearly the same state by other contributors tell one member alone every contribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

FIVE = ("a", "b", "c", "d", "e")
STEPS = torch.arange(1.0, 6.0, dtype=torch.float64)
"""What each of them adds to the model, times the number of the round."""
NEARLY = 1e-7
MOST = 25


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="open; SECURITY.md says so")
@pytest.mark.parametrize("how", ["given", "tiny server rate"])
def test_sums_of_nearly_the_same_state_tell_no_single_contribution(tell: Tell, make_group: MakeGroup, how: str) -> None:
    """Whoever requests the rounds gives a model that it has changed a little, or has the server take tiny steps."""
    given = how == "given"
    server = {"kind": "replace"} if given else {"kind": "momentum", "rate": NEARLY, "beta": 0.0}
    federation = {"secure": {"clip": 4096.0, "threshold": 3}, "participation": 0.8, "server": server}

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE, keyed=True)
        await group.start()
        sums: dict[tuple[str, ...], tuple[list[float], float]] = {}
        for count in range(MOST):
            if given:
                model = {"w": torch.full((3, 2), NEARLY * count), "b": torch.full((1,), 5.0)}
                await group.run_rounds(f"given {count}", given=model)
            (record,) = await group.run_rounds(f"sum {count}", **federation)
            state = next(iter(group.members.values())).service.store.checkpoints["walk"].state
            seen = state["w"] if given else next(each for name, each in state.items() if name.endswith("velocity/w"))
            total = sum(record.weights.values())
            shares = [record.weights.get(name, 0.0) / total for name in FIVE]
            sums[tuple(record.weights)] = shares, seen.flatten()[0].item() / record.number
            if len(sums) == len(FIVE):
                break
        shares_of, means = zip(*sums.values(), strict=True)
        solved = torch.linalg.lstsq(torch.tensor(shares_of, dtype=torch.float64), torch.tensor(means).double()[:, None])
        assert not torch.allclose(solved.solution.flatten(), STEPS, atol=1e-3), f"{how}: {count + 1} sums tell them all"

    tell(story)
