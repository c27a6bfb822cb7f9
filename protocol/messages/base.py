"""What every message is: a frozen value whose fields are checked when it is made, by us or from a peer's bytes.

The same model checks both directions, so nothing can be built here that a peer would refuse to read. A message
knows its kind and its fields; it knows neither frames nor topics nor who sent it (`codec.Envelope` does).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from protocol.topics import LARGEST, NAME, TOPIC, is_address

MAX_MEMBERS = 256
"""How many members one `Hello` names."""

MAX_TOPICS = 1024
"""How many topics one message lists; the header's `Limits.max_items` is the same."""

SIGNATURE_BYTES = 64
"""Bytes of an Ed25519 signature."""

MAX_VALUES = 256
"""How many scalars one message lists."""

MAX_TENSORS = 256
"""How many tensors one message carries; `Limits.max_tensors` is the same."""


class WireValue(BaseModel):
    """A frozen part of a message. Unknown fields are refused, and no type is silently turned into another."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        ser_json_inf_nan="constants",  # journals hold messages, and a loss may be infinite
    )


class Message(WireValue):
    """One thing that a node can say.

    Attributes:
        kind: the word on the wire that names this class.
        numbered: whether its envelope takes the next number of (sender, incarnation, topic), so that a receiver
            notices a loss and asks again. What is repeated anyway, or repairs, is not numbered.
        exact: whether its tensors travel bit for bit, whatever the run's encoding is.
    """

    kind: ClassVar[str]
    numbered: ClassVar[bool]
    exact: ClassVar[bool] = False


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("expected tcp://host:port, ipc://path, inproc://name or memory://name")
    return text


def _number(value: object) -> object:
    if not isinstance(value, float | int):  # a tensor of one value, for example, would be converted
        raise ValueError("expected a float")
    return value


Real = Annotated[float, BeforeValidator(_number)]
"""A float, or an int that becomes one; not always finite."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
"""A number that is counted up: an incarnation, a sequence number, a step."""

Name = Annotated[str, Field(pattern=f"^{NAME}$")]
"""The name of a node."""

Topic = Annotated[str, Field(pattern=f"^{TOPIC}$")]
"""A topic; it ends in "/"."""

Address = Annotated[str, AfterValidator(_address)]
"""Where a socket is bound."""

Label = Annotated[str, Field(min_length=1, max_length=64)]
"""The name of a tensor, an option, a measured value or a phase."""

Seconds = Annotated[Real, Field(ge=0, allow_inf_nan=False)]
"""A length of time."""

Latest = Annotated[dict[Topic, Count], Field(max_length=MAX_TOPICS)]
"""The last number that a sender used, by topic; a topic that is not listed is at 0."""
