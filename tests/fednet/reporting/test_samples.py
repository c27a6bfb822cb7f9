"""A batch of samples is an immutable value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from fednet.reporting.samples import SampleBatch


def test_a_batch_of_samples_is_immutable() -> None:
    batch = SampleBatch(torch.zeros(2, 1, 4, 4), None, ("a1 was late",))
    assert (batch.labels, batch.notes) == (None, ("a1 was late",))
    with pytest.raises(FrozenInstanceError):
        batch.notes = ()  # type: ignore[misc]
