"""Messages of a query: one node requests, every client answers or refuses.

The tensors in a message belong to it once it is created: its creator never writes to them again, since their bytes may
be on their way to a peer (see `protocol.tensors`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from protocol.messages.base import MAX_TENSORS, MAX_VALUES, Count, Label, Message, Reason, Scalar, Seconds, require

Tensors = Annotated[dict[Label, Tensor], Field(max_length=MAX_TENSORS)]
"""Tensors by name."""

Options = Annotated[dict[Label, Scalar], Field(max_length=MAX_VALUES)]
"""Scalars by name."""


class QueryRequest(Message):
    """A query to every client that can answer it.

    Attributes:
        query: the sender's number for this query; every answer repeats it.
        oldest_open: the sender's oldest query that is still open; answers to earlier ones are of no use.
        task: what to compute, for example "score".
        inputs: the tensors to compute it from.
        options: all other arguments.
        ttl: seconds after its arrival for which an answer is of use; then it is dropped unanswered.
    """

    kind: ClassVar[str] = "query_request"
    numbered: ClassVar[bool] = True

    query: Count
    oldest_open: Count
    task: Label
    inputs: Tensors
    options: Options
    ttl: Seconds

    @model_validator(mode="after")
    def _open(self) -> Self:
        require(self.oldest_open <= self.query, "oldest_open <= query")
        return self


class QueryAnswer(Message):
    """The answer of one node to one query.

    Attributes:
        query: the number of the request.
        outputs: the results by name.
        seconds: how long the computation took.
    """

    kind: ClassVar[str] = "query_answer"
    numbered: ClassVar[bool] = True

    query: Count
    outputs: Tensors
    seconds: Seconds


class QueryRefusal(Message):
    """One node cannot answer one query, and why; it stays a member."""

    kind: ClassVar[str] = "query_refusal"
    numbered: ClassVar[bool] = True

    query: Count
    reason: Reason
