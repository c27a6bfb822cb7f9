"""Two of five sites a step, as a user launches it: less travels, and what is drawn is the union still.

The sites bring models along that need no training, kernel density estimates over two digits each.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

SITES, TOTAL, STEPS = 5, 150, 60
MOST_FLOORS = 1.6
"""What the table of the method's README asks of the mixture of all sites, as a multiple of real against real."""
MODELS = """
import torch
from sklearn.datasets import load_digits


def make(labels):
    digits = load_digits()
    chosen = torch.isin(torch.tensor(digits.target), torch.tensor(labels))
    data = torch.tensor(digits.data, dtype=torch.float32)[chosen] / 8 - 1

    def denoised(y, sigma):
        kernel = 0.1 ** 2
        distances = torch.cdist(y.flatten(1), data).square()
        near = torch.softmax(-distances / (2 * (kernel + sigma**2)), 1) @ data
        return (kernel * y + sigma**2 * near.view_as(y)) / (kernel + sigma**2)

    return denoised
"""
NODES = [
    f"  a{k}: {{model: {{kind: python, object: 'digit_models:make', shape: [1, 8, 8], pictures: 360, "
    f"options: {{labels: [{2 * k}, {2 * k + 1}]}}}}}}"
    for k in range(SITES)
]
FEW = "\n".join(
    [
        "name: few",
        "method: score-inference",
        "seed: 3",
        "devices: {threads: 1}",
        "nodes:",
        *NODES,
        f"sampler: {{kind: euler-maruyama, steps: {STEPS}}}",
        f"samples: {{total: {TOTAL}}}",
        "arms:",
        "  all: {rule: mixture}",
        "  two: {rule: {kind: mixture, top_k: 2}}",
        "measure: {data: {name: digits}}",
        "evaluate: {agreement: 0}",
        "",
    ]
)


@pytest.fixture(scope="module")
def arms(terminal: Any) -> dict[str, Any]:
    """What the launch has measured, by arm."""
    (terminal.folder / "few.yaml").write_text(FEW)
    (terminal.folder / "digit_models.py").write_text(MODELS)
    launched = terminal.run("launch", "few.yaml")
    assert launched.code == 0, launched.out + launched.err
    found: dict[str, Any] = json.loads((terminal.folder / "runs" / "few" / "metrics.json").read_text())["arms"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_step_sends_to_two_sites_what_went_to_all(arms: dict[str, Any]) -> None:
    def by_step(arm: str) -> list[int]:
        sites = arms[arm]["traffic"]["samples_by_step"]
        assert len(sites) == SITES
        return [sum(step) for step in zip(*sites.values(), strict=True)]

    def exchanged(arm: str) -> int:
        return sum(site["sent"] + site["received"] for site in arms[arm]["traffic"]["sites"].values())

    everybody, two = by_step("all"), by_step("two")
    assert everybody == [SITES * TOTAL] * (STEPS + 1)
    assert len(two) == len(everybody)
    assert two[0] == SITES * TOTAL, "every site is asked for every sample once"
    assert all(0 < step <= 2 * TOTAL for step in two[1:])
    assert exchanged("two") / exchanged("all") == pytest.approx(sum(two) / sum(everybody))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_two_sites_draw_is_near_to_the_union(arms: dict[str, Any]) -> None:
    """The mean of all sites, which is no union, is fifteen floors away."""
    for arm in ("all", "two"):
        measured = arms[arm]["evaluation"]
        assert measured["frechet"] < MOST_FLOORS * measured["floor"], arm
