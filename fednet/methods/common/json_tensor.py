"""JSON objects as uint8 tensors, for what a reply says besides numbers: replies are tensors by name.

Nothing that comes from a site is trusted: it is a JSON object or a MethodError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fednet.api import Network, Question
from fednet.errors import MethodError
from fednet.text import plain_json


def to_json_tensor(value: Mapping[str, Any]) -> Tensor:
    """A JSON object as uint8 (n,)."""
    return torch.tensor(list(json.dumps(value, sort_keys=True).encode()), dtype=torch.uint8)


def from_json_tensor(tensor: Tensor | None, site: str = "a site") -> dict[str, Any]:
    """The object that `to_json_tensor` was given.

    Args:
        tensor: from a reply.
        site: whose reply, for the message.

    Raises:
        MethodError: the tensor is no JSON object.
    """
    try:
        if tensor is None or tensor.dtype != torch.uint8:
            raise ValueError("expected a uint8 tensor")
        value = plain_json(json.loads(bytes(tensor.flatten().tolist())))
        if not isinstance(value, dict):
            raise ValueError("expected a JSON object")
    except (ValueError, RecursionError) as error:
        raise MethodError(f"the reply of {site} cannot be read ({error})") from error
    return value


def ask_for_json(network: Network, question: Question, key: str) -> dict[str, dict[str, Any]]:
    """The JSON objects that the sites reply with under a key, by name in sorted order.

    Raises:
        MethodError: nobody answers, or a reply is no JSON object.
    """
    replies = network.ask(question).by_node
    return {site: from_json_tensor(reply.get(key), site) for site, reply in replies.items()}
