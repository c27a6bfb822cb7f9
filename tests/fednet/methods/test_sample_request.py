"""What every method that draws samples can be asked for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.methods.sample_request import SampleRequest


def test_no_labels_means_all_of_them() -> None:
    assert SampleRequest() == SampleRequest(labels=None, count=10, seed=0)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"rule": "mean"}, {"labels": "0-9"}])
def test_anything_else_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SampleRequest.model_validate(wrong)
