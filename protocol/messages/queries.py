"""One asks, many answer, the asker goes on.

The tensors in a message belong to it from the moment it is made: whoever puts one in never writes to it again,
since its bytes may be on their way to a peer (see `protocol.tensors`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from protocol.messages.base import MAX_TENSORS, MAX_VALUES, Count, Label, Message, Real, Seconds

Scalar = float | int | bool | str | None
"""What an option may be."""

Tensors = Annotated[dict[Label, Tensor], Field(max_length=MAX_TENSORS)]
"""Tensors by name."""

Options = Annotated[dict[Label, Real | int | bool | str | None], Field(max_length=MAX_VALUES)]
"""Scalars by name."""


class QueryRequest(Message):
    """A question to everybody who can answer it.

    Attributes:
        query: the asker's number for this question; every answer repeats it.
        oldest_open: the asker's oldest question that is still open; nobody waits for answers to earlier ones.
        task: what is asked, for example "score".
        inputs: the tensors it is asked about.
        options: everything else the answerer needs to know.
        ttl: seconds after its arrival for which an answer is still of use; it is dropped unanswered after that.
    """

    kind: ClassVar[str] = "query_request"
    numbered: ClassVar[bool] = True

    query: Count
    oldest_open: Count
    task: Label
    inputs: Tensors
    options: Options
    ttl: Seconds


class QueryAnswer(Message):
    """What one node answers to one query.

    Attributes:
        query: the asker's number of the question.
        outputs: the tensors that were asked for.
        seconds: how long the computation took.
    """

    kind: ClassVar[str] = "query_answer"
    numbered: ClassVar[bool] = True

    query: Count
    outputs: Tensors
    seconds: Seconds


class QueryRefusal(Message):
    """One node cannot answer one query, and why; it lives on."""

    kind: ClassVar[str] = "query_refusal"
    numbered: ClassVar[bool] = True

    query: Count
    reason: Annotated[str, Field(max_length=500)]
