"""Asking again for what was lost on the way.

PUB sockets drop silently. A receiver that finds a gap in a sender's numbers asks for them again; the sender repeats
them from a bounded buffer, or says that they are gone. `protocol.retransmission` finds the gaps.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from protocol.messages.base import Count, Message, Topic
from protocol.topics import LARGEST

MAX_SPAN = 1024
"""How many numbers one `RetransmitRequest` or `RetransmitUnavailable` covers."""

Number = Annotated[int, Field(ge=1, le=LARGEST)]


class _Span(Message):
    """The numbers `first` to `last`, both included, of one topic of one sender."""

    topic: Topic
    first: Number
    last: Number

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 0 <= self.last - self.first < MAX_SPAN:
            raise ValueError(f"expected first <= last < first + {MAX_SPAN}")
        return self


class RetransmitRequest(_Span):
    """Asks the receiver to repeat what it sent as `incarnation` under these numbers."""

    kind: ClassVar[str] = "retransmit_request"
    numbered: ClassVar[bool] = False

    incarnation: Count


class Retransmission(Message):
    """A message sent once more; the frames after the header are the first message's frames, untouched."""

    kind: ClassVar[str] = "retransmission"
    numbered: ClassVar[bool] = False


class RetransmitUnavailable(_Span):
    """The sender no longer holds what it sent under these numbers."""

    kind: ClassVar[str] = "retransmit_unavailable"
    numbered: ClassVar[bool] = False
