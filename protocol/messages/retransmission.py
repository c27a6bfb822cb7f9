"""Messages by which lost messages are retransmitted.

PUB sockets drop silently. A receiver that detects a gap in a sender's sequence numbers requests them; the sender
retransmits from a bounded buffer, or reports that they are unavailable. `protocol.retransmission` detects the gaps.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from protocol.messages.base import Count, Message, Topic
from protocol.topics import LARGEST

MAX_SPAN = 1024
"""Numbers in one `RetransmitRequest` or `RetransmitUnavailable`."""

SequenceNumber = Annotated[int, Field(ge=1, le=LARGEST)]


class _RangeMessage(Message):
    """Names the numbers `first` to `last`, both included, of one topic of one sender."""

    topic: Topic
    first: SequenceNumber
    last: SequenceNumber

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 0 <= self.last - self.first < MAX_SPAN:
            raise ValueError(f"expected first <= last < first + {MAX_SPAN}")
        return self


class RetransmitRequest(_RangeMessage):
    """Requests the messages that the receiver sent as `incarnation` under these numbers."""

    kind: ClassVar[str] = "retransmit_request"
    numbered: ClassVar[bool] = False

    incarnation: Count


class Retransmission(Message):
    """A message sent once more; the frames after its header are those of the first transmission, unchanged."""

    kind: ClassVar[str] = "retransmission"
    numbered: ClassVar[bool] = False


class RetransmitUnavailable(_RangeMessage):
    """The sender no longer has the messages of these numbers."""

    kind: ClassVar[str] = "retransmit_unavailable"
    numbered: ClassVar[bool] = False
