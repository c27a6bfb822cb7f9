"""The base of every message: a frozen value, validated when it is created, and the types of its fields.

The same model validates both directions, so that a message which can be created can be read by every peer. A message
knows its kind and its fields; frames, topics and senders belong to `codec.Envelope`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationInfo

from protocol.text import SEEN, plain_text
from protocol.topics import LARGEST, NAME, TOPIC, is_address

MAX_MEMBERS = 256
"""Members in one message."""

MAX_TOPICS = 1024
"""Topics in one message; equal to `Limits.max_items`."""

SIGNATURE_BYTES = 64
"""Bytes of an Ed25519 signature."""

MAX_VALUES = 256
"""Scalars in one message."""

MAX_TENSORS = 256
"""Tensors in one message; equal to `Limits.max_tensors`."""


class WireValue(BaseModel):
    """A frozen part of a message. Unknown fields are rejected and types are not coerced."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        ser_json_inf_nan="strings",  # journals hold messages, and a loss may be infinite, which JSON has no number for
        ser_json_bytes="base64",  # a signature is no text
        val_json_bytes="base64",
    )


class Message(WireValue):
    """A message of the protocol.

    Attributes:
        kind: its name on the wire, the class name in snake case.
        numbered: whether it takes the next sequence number of (sender, incarnation, topic), so that a receiver
            detects its loss and requests a retransmission. Messages that are repeated anyway are not numbered.
        exact: whether its tensors are always encoded bit for bit (`raw`).
    """

    kind: ClassVar[str]
    numbered: ClassVar[bool]
    exact: ClassVar[bool] = False

    def may_be_from(self, sender: str, incarnation: int) -> bool:
        """Whether this node can be its sender: false where the message names another one as its author."""
        return True


def require(holds: bool, expected: str) -> None:
    """For validators of fields against each other.

    Raises:
        ValueError: it does not hold; says what was expected.
    """
    if not holds:
        raise ValueError(f"expected {expected}")


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("expected tcp://host:port, ipc://path, inproc://name or memory://name")
    return text


def _from_journal(value: object, info: ValidationInfo) -> object:
    """A number as `WireValue` writes it where JSON has none; on the wire these strings are strings."""
    return float(str(value)) if info.mode == "json" and value in ("NaN", "Infinity", "-Infinity") else value


def _real(value: object) -> object:
    if not isinstance(value, float | int):  # a tensor of one value, for example, would be converted
        raise ValueError("expected a float")
    return value


def _scalar(value: object, info: ValidationInfo) -> object:
    """One look at the type, where a union would try each of its members."""
    value = _from_journal(value, info)
    if value is None or isinstance(value, float | int | str):  # a bool is an int
        return value
    raise ValueError("expected a number, a bool, a string or None")


Real = Annotated[float, BeforeValidator(_real), BeforeValidator(_from_journal)]
"""A float, or an int that is converted to one; may be infinite or NaN."""

Scalar = Annotated[float | int | bool | str | None, PlainValidator(_scalar)]
"""The value of an option."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
"""A counter: an incarnation, a sequence number, a step; in [0, 2^63)."""

Name = Annotated[str, Field(pattern=f"^{NAME}$")]
"""The name of a node."""

Topic = Annotated[str, Field(pattern=f"^{TOPIC}$")]
"""A topic; ends in "/"."""

Address = Annotated[str, AfterValidator(_address)]
"""The address of a socket, see `protocol.topics.is_address`."""

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=SEEN)]
"""The name of a tensor, an option, a measured value, a task or a phase; without characters that cannot be seen."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_real)]
"""A duration, finite and not negative."""

Latest = Annotated[dict[Topic, Count], Field(max_length=MAX_TOPICS)]
"""The last sequence number of a sender by topic; 0 for a topic that is not listed."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The name of a blob: a hash of its content, 64 lower-case hexadecimal digits; nodes choose which hash."""

Text = Annotated[str, AfterValidator(plain_text)]
"""Words for people, in one line that can neither steer a terminal nor forge a line of a log."""

Reason = Annotated[Text, Field(max_length=500)]
"""Why something failed, for people."""

RequestKey = Annotated[str, Field(min_length=1, max_length=128, pattern=SEEN)]
"""The name of a request in its run; repeating a request under its key is harmless."""
