"""Every peer offers, every peer absorbs: what is offered is words, embeddings of a few tokens.

How they follow each other is told in PROTOCOL.md, "Exchange"; `protocol.exchange` decides when one is over. Of these
messages only an offer has a tensor, and that is one small matrix: a picture, a gradient or a model has no place here as
it is, at its sender and at every peer alike. What the numbers of a matrix are made of no shape can prove.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from protocol.messages.base import MAX_VALUES, Count, Label, Message, Name, Real
from protocol.messages.queries import Options

MAX_TOKENS = 64
"""How many tokens the words of one `Offer` have."""

MAX_WIDTH = 4096
"""How many values one token has."""

MAX_SUBJECTS = 256
"""How many subjects one peer offers under one call."""

MAX_REQUESTED = 1024
"""How many subjects one `OfferRequest` names; the header's `Limits.max_items` is the same."""

MAX_REASON = 300
"""Characters of the reason why one offer was refused; all of one `OfferVerdict` fit into a header."""

Key = Annotated[str, Field(min_length=1, max_length=128)]
"""The name of a call in its run."""

Version = Annotated[Count, Field(ge=1)]
Versions = Annotated[dict[Label, Version], Field(max_length=MAX_SUBJECTS)]
"""Versions by subject."""


def _embeddings(words: Tensor) -> Tensor:
    if words.dtype is not torch.float32 or words.dim() != 2:
        raise ValueError("expected a float32 tensor of shape (tokens, width)")
    if not (1 <= words.shape[0] <= MAX_TOKENS and 1 <= words.shape[1] <= MAX_WIDTH):
        raise ValueError(f"expected words of shape (1 to {MAX_TOKENS}, 1 to {MAX_WIDTH})")
    if not bool(torch.isfinite(words).all()):
        raise ValueError("expected finite words")
    return words


class ExchangeRequest(Message):
    """Asks every peer to do some work, to offer what comes out and to absorb what the others offer.

    Attributes:
        key: its name; who hears it again says again what it has said.
        task: what to do before offering.
        options: of the task.
    """

    kind: ClassVar[str] = "exchange_request"
    numbered: ClassVar[bool] = True

    key: Key
    task: Label
    options: Options


class OfferMessage(Message):
    """What one peer teaches the others about one subject.

    Attributes:
        origin: who has learnt it; another sender than its origin is believed only about those who are gone.
        subject: what it is about.
        version: a later one takes the place of an earlier one of the same origin and subject.
        key: the call under which it was made; empty for none that matters any more.
        embeddings: (tokens, width) float32, finite.
    """

    kind: ClassVar[str] = "offer"
    numbered: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    origin: Name
    subject: Label
    version: Version
    key: Annotated[str, Field(max_length=128)]
    embeddings: Annotated[Tensor, AfterValidator(_embeddings)]


class _ExchangeMessage(Message):
    """What is said about one call.

    Attributes:
        key: the call's.
    """

    key: Key


class OfferList(_ExchangeMessage):
    """This is all that its sender offers under a call.

    Attributes:
        versions: of its offers, by subject.
        values: what was measured on the way.
        bytes_sent: of its offers, frames and headers included, each counted once.
    """

    kind: ClassVar[str] = "offer_list"
    numbered: ClassVar[bool] = True

    versions: Versions
    values: Annotated[dict[Label, Real], Field(max_length=MAX_VALUES)]
    bytes_sent: Count


class OfferRequest(Message):
    """Its sender has missed something that an origin has offered, or perhaps has, since it has lost that origin.

    Attributes:
        origin: whose offers.
        versions: what the sender has of it, by subject.
    """

    kind: ClassVar[str] = "offer_request"
    numbered: ClassVar[bool] = True

    origin: Name
    versions: Annotated[dict[Label, Version], Field(max_length=MAX_REQUESTED)]


class ExchangeDecline(_ExchangeMessage):
    """Its sender cannot take part in a call, and why."""

    kind: ClassVar[str] = "exchange_decline"
    numbered: ClassVar[bool] = True

    reason: Annotated[str, Field(max_length=500)]


class OfferVerdict(_ExchangeMessage):
    """Its sender has taken in, or refused, all that an origin offers under a call.

    Attributes:
        origin: whose offers.
        refused: why it has refused which of them, by subject.
    """

    kind: ClassVar[str] = "offer_verdict"
    numbered: ClassVar[bool] = True

    origin: Name
    refused: Annotated[dict[Label, Annotated[str, Field(max_length=MAX_REASON)]], Field(max_length=MAX_SUBJECTS)]
