"""JSON objects travel as bytes, and what is no JSON object is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import Question, Replies
from fednet.errors import MethodError
from fednet.methods.common.json_tensor import ask_for_json, from_json_tensor, to_json_tensor


def test_an_object_travels_as_bytes() -> None:
    value = {"a": 1, "b": {"c": None}, "ü": "é"}
    assert from_json_tensor(to_json_tensor(value)) == value


@pytest.mark.parametrize(
    "tensor", [None, torch.zeros(3), torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([91, 93], dtype=torch.uint8)]
)
def test_what_is_no_object_is_refused(tensor: Tensor | None) -> None:
    with pytest.raises(MethodError, match="the reply of a1 cannot be read"):
        from_json_tensor(tensor, "a1")


def test_every_sites_reply_is_read() -> None:
    replies = Replies({"a": {"status": to_json_tensor({"x": 1})}, "b": {"status": to_json_tensor({"x": 2})}})
    network: Any = SimpleNamespace(ask=lambda _question: replies)
    assert ask_for_json(network, Question("status", {}), "status") == {"a": {"x": 1}, "b": {"x": 2}}
