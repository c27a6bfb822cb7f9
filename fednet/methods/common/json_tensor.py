"""JSON objects as tensors: what a reply says in words and numbers, since replies are tensors by name.

What comes from a site is never trusted: it is an object of JSON or a MethodError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fednet.errors import MethodError


def to_json_tensor(value: Mapping[str, Any]) -> Tensor:
    """A JSON object as uint8 (n,), since replies are tensors."""
    return torch.tensor(list(json.dumps(value, sort_keys=True).encode()), dtype=torch.uint8)


def from_json_tensor(tensor: Tensor | None) -> dict[str, Any]:
    """What `as_tensor` was given.

    Raises:
        MethodError: the tensor is no JSON object.
    """
    try:
        if tensor is None or tensor.dtype != torch.uint8:
            raise ValueError("no bytes")
        found = json.loads(bytes(tensor.flatten().tolist()))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise MethodError(f"a site's reply cannot be read ({error})") from error
    return found
