"""What is said as JSON travels as bytes, and what is no object of JSON is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.methods.common.json_tensor import from_json_tensor, to_json_tensor


def test_an_object_travels_as_bytes() -> None:
    value = {"a": 1, "b": {"c": None}, "ü": "é"}
    assert from_json_tensor(to_json_tensor(value)) == value


@pytest.mark.parametrize(
    "tensor", [None, torch.zeros(3), torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([91, 93], dtype=torch.uint8)]
)
def test_what_is_no_object_is_refused(tensor: Tensor | None) -> None:
    with pytest.raises(MethodError, match="cannot be read"):
        from_json_tensor(tensor)
