"""A visitor's wish: a live cluster and its checkpoint draw the same, and what cannot be drawn is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress
from fednet.errors import MethodError, ModelError
from fednet.methods.fedbagan.job import run_job
from fednet.methods.fedbagan.results import BEST_CHECKPOINT
from fednet.methods.fedbagan.sampling import sample, sample_from, validated_labels
from fednet.methods.sample_request import SampleRequest

NAMES = ("rows", "columns", "checks")
Make = Callable[..., Any]


def test_which_labels_are_drawn() -> None:
    assert validated_labels(SampleRequest(count=2), NAMES).tolist() == [0, 0, 1, 1, 2, 2]
    assert validated_labels(SampleRequest(labels=(2, 0), count=1), NAMES).tolist() == [2, 0]
    assert validated_labels(SampleRequest(labels=("checks", "rows"), count=1), NAMES).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (SampleRequest(labels=(3,)), "labels names the class '3'; the classes are rows, columns, checks"),
        (SampleRequest(labels=("dots",)), "labels names the class 'dots'"),
        (SampleRequest(labels=(0,), count=20_001), "20001 pictures cannot be generated at once"),
        (SampleRequest(labels=()), "0 pictures cannot be generated"),
    ],
)
def test_what_cannot_be_drawn(request_: SampleRequest, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        validated_labels(request_, NAMES)


def test_nobody_is_there(federation: Make) -> None:
    network = federation().network
    network.capabilities = {}
    with pytest.raises(MethodError, match="start clients of the method fedbagan"):
        sample(network, SampleRequest(), NullProgress())


def test_a_foreign_file_is_refused(tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"foreign")
    with pytest.raises(ModelError, match="give a checkpoint of fedbagan"):
        sample_from(tmp_path / "file", SampleRequest())


def test_the_cluster_and_its_best_checkpoint_draw_the_same(whole: Make) -> None:
    """After a run every site draws with the best generator."""
    made = whole(baseline=False)
    run_job(made.config, made.network, made.folder, 0, NullProgress())
    request = SampleRequest(labels=(7, 1), count=3, seed=5)
    live, kept = sample(made.network, request, NullProgress()), sample_from(made.folder / BEST_CHECKPOINT, request)
    assert live.labels is not None
    assert live.labels.tolist() == [7, 7, 7, 1, 1, 1]
    assert torch.equal(live.images, kept.images)
    assert not torch.equal(
        live.images, sample(made.network, SampleRequest(labels=(7, 1), count=3, seed=6), NullProgress()).images
    )
    assert "whose generator is that of all sites" in live.notes[0]
    assert "after round" in kept.notes[0]
