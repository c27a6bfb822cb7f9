"""Sites' agreement over t."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress
from fednet.data.datasets import ImageSet
from fednet.federated.local_network import local_ask
from fednet.methods.score_inference.agreement import measure_agreement
from fednet.methods.score_inference.messages import read_score_capabilities


def look(made: Any, times: int = 3) -> Any:
    real = ImageSet(torch.rand(5, 1, 4, 4) * 2 - 1, torch.tensor([0, 1, 2, 0, 1]), ("one", "two", "three"))
    return measure_agreement(
        local_ask(made.sites), read_score_capabilities(made.capabilities), real, times, seed=0, progress=NullProgress()
    )


def test_agents_agree_on_noise_and_scores_times_deviation_have_the_size_of_noise(
    federation: Callable[..., Any],
) -> None:
    points = look(federation())
    assert [point.t for point in points] == pytest.approx([1.0, 0.5005, 0.001])
    for one in points[0].sites.values():
        assert one.cosine == pytest.approx(1, abs=0.01)
        assert one.magnitude == pytest.approx(4, abs=1)
    assert set(points[1].sites) == {"a1", "a2", "a3"}


def test_one_agent_and_no_times_give_nothing(federation: Callable[..., Any]) -> None:
    assert look(federation(count=1)) == ()
    assert look(federation(), times=0) == ()
