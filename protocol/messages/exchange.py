"""Messages of an exchange, in which every peer offers embeddings of a few tokens and absorbs those of the others.

PROTOCOL.md, "Exchange", gives their order; `protocol.exchange` decides when an exchange is over. Only an offer has a
tensor, one small matrix, so that neither sender nor receiver accepts an image, a gradient or a model. The shape cannot
prove what the numbers of a matrix are made of.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from protocol.messages.base import MAX_VALUES, Count, Label, Message, Name, Real, Reason, RequestKey, Text
from protocol.messages.queries import Options

MAX_TOKENS = 64
"""Tokens of one offer."""

MAX_WIDTH = 4096
"""Values of one token."""

MAX_SUBJECTS = 256
"""Subjects that one peer offers in one exchange."""

MAX_REQUESTED = 1024
"""Subjects in one `OfferRequest`; equal to the header's `Limits.max_items`."""

MAX_REASON = 300
"""Characters of the reason why one offer was rejected, so that all of one `OfferVerdict` fit into a header."""

Version = Annotated[Count, Field(ge=1)]
Versions = Annotated[dict[Label, Version], Field(max_length=MAX_SUBJECTS)]
"""Versions by subject."""


def _embeddings(embeddings: Tensor) -> Tensor:
    if embeddings.dtype is not torch.float32 or embeddings.dim() != 2:
        raise ValueError("expected a float32 tensor of shape (tokens, width)")
    if not (1 <= embeddings.shape[0] <= MAX_TOKENS and 1 <= embeddings.shape[1] <= MAX_WIDTH):
        raise ValueError(f"expected embeddings of shape (1 to {MAX_TOKENS}, 1 to {MAX_WIDTH})")
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("expected finite embeddings")
    return embeddings


class ExchangeRequest(Message):
    """Requests every peer to do a task, to offer its results and to absorb the others' offers.

    Attributes:
        key: its name; a peer that receives it again repeats its responses.
        task: what to do before offering.
        options: of the task.
    """

    kind: ClassVar[str] = "exchange_request"
    numbered: ClassVar[bool] = True

    key: RequestKey
    task: Label
    options: Options


class OfferMessage(Message):
    """The embeddings of one subject, as one peer has learned them.

    Attributes:
        origin: the peer that has learned it; relayed by another peer it is accepted only once its origin is gone.
        subject: what it is about.
        version: a later one replaces an earlier one of the same origin and subject.
        key: the exchange in which it was made; empty for none that is still open.
        embeddings: (tokens, width) float32, finite.
    """

    kind: ClassVar[str] = "offer"
    numbered: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    origin: Name
    subject: Label
    version: Version
    key: Annotated[Text, Field(max_length=128)]
    embeddings: Annotated[Tensor, AfterValidator(_embeddings)]


class _ExchangeMessage(Message):
    """A message of one exchange.

    Attributes:
        key: of its request.
    """

    key: RequestKey


class OfferList(_ExchangeMessage):
    """Completes the sender's offers in an exchange.

    Attributes:
        versions: of its offers, by subject.
        values: its measurements, by name.
        bytes_sent: of its offers, frames and headers included, each counted once.
    """

    kind: ClassVar[str] = "offer_list"
    numbered: ClassVar[bool] = True

    versions: Versions
    values: Annotated[dict[Label, Real], Field(max_length=MAX_VALUES)]
    bytes_sent: Count


class OfferRequest(Message):
    """Requests the offers of an origin that the sender has missed, or may have missed since the origin was lost.

    Attributes:
        origin: whose offers.
        versions: those that the sender has, by subject.
    """

    kind: ClassVar[str] = "offer_request"
    numbered: ClassVar[bool] = True

    origin: Name
    versions: Annotated[dict[Label, Version], Field(max_length=MAX_REQUESTED)]


class ExchangeDecline(_ExchangeMessage):
    """The sender cannot take part in an exchange, and why."""

    kind: ClassVar[str] = "exchange_decline"
    numbered: ClassVar[bool] = True

    reason: Reason


class OfferVerdict(_ExchangeMessage):
    """The sender has absorbed or rejected every offer of an origin in an exchange.

    Attributes:
        origin: whose offers.
        refused: the reasons of those that it rejected, by subject.
    """

    kind: ClassVar[str] = "offer_verdict"
    numbered: ClassVar[bool] = True

    origin: Name
    refused: Annotated[dict[Label, Annotated[Text, Field(max_length=MAX_REASON)]], Field(max_length=MAX_SUBJECTS)]
