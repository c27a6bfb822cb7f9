"""A model in a reply comes back as the bytes of its file."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import Question, Replies
from fednet.errors import MethodError
from fednet.federated.state import unpack
from fednet.methods.common.model_transfer import fetch_model, model_reply

STATE = {"w": torch.arange(4.0)}


def network(reply: Mapping[str, Tensor]) -> Any:
    def ask(question: Question) -> Replies:
        assert (question.task, dict(question.options), question.to) == ("model", {"model": "gan"}, ("a1",))
        return Replies({"a1": reply})

    return SimpleNamespace(ask=ask)


def test_a_model_travels_as_its_file() -> None:
    state = unpack(fetch_model(network(model_reply(STATE)), "a1", "gan"))
    assert torch.equal(state["w"], STATE["w"])


@pytest.mark.parametrize("reply", [{}, {"content": torch.zeros(3)}])
def test_a_reply_without_bytes_is_refused(reply: dict[str, Tensor]) -> None:
    with pytest.raises(MethodError, match="a1 sent no model"):
        fetch_model(network(reply), "a1", "gan")
