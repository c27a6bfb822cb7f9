"""What requests and answers accept; frames that codec tests forge are not repeated here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from protocol.messages import QueryAnswer, QueryRefusal, QueryRequest

QUERY: dict[str, Any] = {"query": 1, "oldest_open": 1, "task": "score", "inputs": {}, "options": {}, "ttl": 1.0}


def test_the_oldest_open_query_is_no_later_one() -> None:
    with pytest.raises(ValidationError, match="oldest_open"):
        QueryRequest(**(QUERY | {"oldest_open": 2}))


def test_an_option_keeps_its_type() -> None:
    options = {"float": 1.0, "int": 1, "bool": True, "str": "1", "none": None, "large": 2**63}
    kept = QueryRequest(**(QUERY | {"options": options})).options
    assert [(type(value), value) for value in kept.values()] == [(type(value), value) for value in options.values()]


@pytest.mark.parametrize("value", [torch.tensor(0.5), torch.tensor(1), np.float32(0.5), np.int64(1), b"x", [1], {}, 1j])
def test_an_option_is_a_plain_scalar(value: object) -> None:
    with pytest.raises(ValidationError):
        QueryRequest(**(QUERY | {"options": {"o": value}}))


@pytest.mark.parametrize("value", [1.0, [1.0], None, np.zeros(3)])
def test_an_input_is_a_tensor_and_is_not_copied(value: object) -> None:
    tensor = torch.zeros(3)
    assert QueryRequest(**(QUERY | {"inputs": {"x": tensor}})).inputs["x"] is tensor
    with pytest.raises(ValidationError):
        QueryRequest(**(QUERY | {"inputs": {"x": value}}))


def test_there_are_at_most_256_of_each() -> None:
    for field, value in (("inputs", torch.zeros(1)), ("options", 1)):
        assert QueryRequest(**(QUERY | {field: {f"v{index}": value for index in range(256)}}))
        with pytest.raises(ValidationError):
            QueryRequest(**(QUERY | {field: {f"v{index}": value for index in range(257)}}))


def test_a_duration_is_finite_and_not_negative() -> None:
    assert QueryAnswer(query=1, outputs={}, seconds=0).seconds == 0.0
    for wrong in (-1e-9, float("inf"), float("nan"), "1", True):
        with pytest.raises(ValidationError):
            QueryAnswer(query=1, outputs={}, seconds=wrong)  # type: ignore[arg-type]


def test_a_refusal_is_short() -> None:
    assert QueryRefusal(query=1, reason="x" * 500).reason
    with pytest.raises(ValidationError):
        QueryRefusal(query=1, reason="x" * 501)
