"""A model in a reply: the bytes of a safetensors file as a uint8 tensor. Knows no method."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fednet.api import ModelState, Network, Question
from fednet.errors import MethodError
from fednet.federated.state import pack

MODEL = "model"
"""The question for a model; its option `model` says which."""
CONTENT = "content"


def model_reply(state: ModelState) -> Mapping[str, Tensor]:
    """The reply that holds a model."""
    return {CONTENT: torch.frombuffer(bytearray(pack(state)), dtype=torch.uint8)}


def fetch_model(network: Network, site: str, model: str) -> bytes:
    """A site's model as the bytes of a safetensors file.

    Raises:
        MethodError: the site refuses, or its reply holds no bytes.
    """
    reply = network.ask(Question(MODEL, {}, {"model": model}, (site,))).by_node[site]
    content = reply.get(CONTENT)
    if content is None or content.dtype != torch.uint8:
        raise MethodError(f"{site} sent no model: its reply has no uint8 tensor {CONTENT!r}")
    return content.contiguous().numpy().tobytes()
