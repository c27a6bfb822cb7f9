"""Encodes envelopes as frames and decodes them: `[topic, header, buffer, buffer, ...]`.

A tensor in the body of the header is an extension that names its buffer, whose bytes travel beside the header and are
not copied. PROTOCOL.md is the specification.

Received frames are validated from the outside in, each layer before the next is touched: the number and the sizes of
the frames, the header (`protocol.header`), every tensor's descriptor against its frame, the message's own fields, the
envelope, and that every frame was used exactly once. Any violation is a `WireError`. Knows no sockets, no clock, and
not which peer may send which kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgpack
from pydantic import ValidationError
from torch import Tensor

from protocol import header
from protocol.errors import EncodingError, LimitError, WireError
from protocol.frames import Buffer
from protocol.header import VERSION, Header
from protocol.limits import DEFAULT, Limits
from protocol.messages import KINDS, Message, Retransmission
from protocol.messages.base import WireValue
from protocol.tensors import Descriptor, Encoding, describe, pack, unpack
from protocol.topics import LARGEST, TOPIC, carries, is_name, is_run, is_topic

__all__ = [
    "VERSION",
    "Envelope",
    "check_sizes",
    "decode",
    "encode",
    "encode_retransmission",
    "retransmitted_frames",
]

_TENSOR = 1  # the extension type of a tensor
_MAX_TOPIC_BYTES = 3 * 33
_MAX_DESCRIPTOR_BYTES = 256
_REPAIR_FRAMES = 2  # topic and header of a `Retransmission`
_SECURITY_FRAMES = 3  # the signatures of a message and of the `Retransmission` around it, and an AEAD header
_REPAIR_BYTES = 8192  # room that every message leaves for the `Retransmission` around it, signatures and AEAD tags


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with its metadata.

    Attributes:
        topic: it is published under; ends in "/".
        run: it belongs to.
        sender: the node that has sent it.
        incarnation: of the sender.
        number: its sequence number within (sender, incarnation, topic), from 1; 0 if it is not numbered.
        message: the content.
    """

    topic: str
    run: str
    sender: str
    incarnation: int
    number: int
    message: Message

    def violation(self) -> str | None:
        """The first invalid item of the metadata, None if there is none; a message has validated its own fields."""
        if not is_topic(self.topic):
            return f"topic does not match {TOPIC}"
        if not is_run(self.run) or not is_name(self.sender):
            return "run or sender is not a name"
        if not 0 <= self.incarnation <= LARGEST or not 0 <= self.number <= LARGEST:
            return "incarnation or number is out of range"
        if self.message.numbered != (self.number > 0):
            return "a numbered message has a number from 1, any other has 0"
        return self._misplaced()

    def _misplaced(self) -> str | None:
        """Why this message cannot be of this sender, or not on this topic."""
        if not carries(self.topic, self.message.kind):
            return f"{self.message.kind} is not published under this topic"
        if not self.message.may_be_from(self.sender, self.incarnation):
            return f"{self.message.kind} names another author than its sender"
        return None


def encode(envelope: Envelope, encoding: Encoding = "raw", limits: Limits = DEFAULT) -> list[Buffer]:
    """The frames of a message; those of tensors are views of the tensors, which must not change from now on.

    Args:
        envelope: the message to send.
        encoding: of floating point tensors, see `protocol.tensors`; ignored for a message that is `exact`.
        limits: that the receivers apply.

    Returns:
        The topic, the header, and one buffer a tensor.

    Raises:
        EncodingError: the metadata is invalid, a tensor cannot be encoded, or the message exceeds a limit.
    """
    violation = envelope.violation()
    if violation:
        raise EncodingError(violation, topic=envelope.topic, run=envelope.run, sender=envelope.sender)
    message = envelope.message
    outgoing = _Outgoing("raw" if message.exact else encoding, limits)
    head = Header(
        VERSION, message.kind, envelope.run, envelope.sender, envelope.incarnation, envelope.number, vars(message)
    )
    written = header.write(head, outgoing.extension)
    outgoing.check(len(written), message.kind)
    return [envelope.topic.encode(), written, *outgoing.buffers]


def decode(frames: Sequence[Buffer], limits: Limits = DEFAULT, *, signed: bool = False) -> Envelope:
    """The envelope in the frames of a peer.

    Args:
        frames: as received, without their signature; tensors may be views of them and keep them alive.
        limits: that are applied.
        signed: whether the frames in a `Retransmission` end in a signature, see `protocol.security.authentication`.

    Returns:
        A valid envelope. The message in a `Retransmission` is valid too, and of the same sender;
        `decode(retransmitted_frames(frames))` returns it.

    Raises:
        WireError: the frames are not a valid message.
    """
    views = check_sizes(frames, limits)
    envelope, used = _read(views, limits)
    if isinstance(envelope.message, Retransmission):
        first, used = _read(views[_REPAIR_FRAMES:], limits)
        used += _REPAIR_FRAMES + signed
        if not first.message.numbered:
            raise WireError("a retransmission carries a message that is not numbered", kind=first.message.kind)
        if _sender(first) != _sender(envelope):
            raise WireError("a message is retransmitted by another node", sender=envelope.sender, first=first.sender)
    if used != len(views):
        raise WireError("a frame belongs to no tensor", frames=len(views), used=used)
    return envelope


def encode_retransmission(
    frames: Sequence[Buffer], run: str, sender: str, incarnation: int, topic: str
) -> list[Buffer]:
    """The frames of a `Retransmission` that carries the frames of an earlier message, unchanged.

    Args:
        frames: of the earlier message, as `encode` returned them.
        run: its run.
        sender: its sender, which retransmits it.
        incarnation: its sender's incarnation.
        topic: the inbox of the peer that has requested it.
    """
    return [*encode(Envelope(topic, run, sender, incarnation, 0, Retransmission())), *frames]


def retransmitted_frames(frames: Sequence[Buffer]) -> Sequence[Buffer]:
    """The frames that a `Retransmission` carries."""
    return frames[_REPAIR_FRAMES:]


class _Outgoing:
    """Encodes the tensors of one message: collects their frames while msgpack walks the body."""

    def __init__(self, encoding: Encoding, limits: Limits) -> None:
        self.buffers: list[memoryview] = []
        self._encoding = encoding
        self._limits = limits
        self._tensor_bytes = 0

    def extension(self, value: object) -> object:
        """Converts a value that msgpack does not know: a tensor, or a value within the message."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, WireValue):
            return vars(value)
        raise TypeError(f"{type(value).__name__} is not a type of the wire")

    def _tensor(self, tensor: Tensor) -> msgpack.ExtType:
        descriptor, buffer = pack(tensor, self._encoding)
        size = max(descriptor.tensor_bytes, len(buffer))
        self._tensor_bytes += size
        if size > self._limits.max_frame_bytes or len(descriptor.shape) > self._limits.max_dims:
            raise EncodingError("tensor is too large", shape=descriptor.shape, bytes=size)
        index = len(self.buffers)
        self.buffers.append(buffer)
        return _write_descriptor(descriptor, index)

    def check(self, header_bytes: int, kind: str) -> None:
        """Checks the whole message against the limits, with room for the `Retransmission` around it."""
        limits = self._limits
        if header_bytes > limits.max_header_bytes:
            raise EncodingError("header is too long", kind=kind, bytes=header_bytes, most=limits.max_header_bytes)
        if len(self.buffers) > min(limits.max_tensors, limits.max_frames - 2 - _REPAIR_FRAMES - _SECURITY_FRAMES):
            raise EncodingError("message has too many tensors", kind=kind, tensors=len(self.buffers))
        size = header_bytes + self._tensor_bytes
        if size > limits.max_message_bytes - _REPAIR_BYTES:
            raise EncodingError("message is too large", kind=kind, bytes=size, most=limits.max_message_bytes)


class _Incoming:
    """Decodes the tensors of one message: each frame is read once, and all within one budget of bytes."""

    def __init__(self, frames: Sequence[memoryview], limits: Limits) -> None:
        self.taken: set[int] = set()
        self._frames = frames
        self._limits = limits
        self._room = limits.max_message_bytes

    def extension(self, code: int, payload: bytes) -> Tensor:
        """Decodes an extension in the header as the tensor whose frame it names."""
        if code != _TENSOR:
            raise WireError("unknown extension type", type=code)
        descriptor, index = _read_descriptor(payload, self._limits.max_dims)
        frame = self._take(index)
        self._spend(descriptor.tensor_bytes)
        return unpack(descriptor, frame)

    def _take(self, index: object) -> memoryview:
        if type(index) is not int or not 0 <= index < len(self._frames):
            raise WireError("a tensor names a frame that does not exist", frames=len(self._frames))
        if index in self.taken:
            raise WireError("two tensors name the same frame", frame=index)
        if len(self.taken) == self._limits.max_tensors:
            raise LimitError("too many tensors", most=self._limits.max_tensors)
        self.taken.add(index)
        return self._frames[index]

    def _spend(self, size: int) -> None:
        self._room -= size
        if size > self._limits.max_frame_bytes or self._room < 0:
            raise LimitError("decoded tensors would exceed the limit", bytes=size)


@lru_cache(maxsize=1024)
def _write_descriptor(descriptor: Descriptor, index: int) -> msgpack.ExtType:
    """A tensor's extension in the header; those of a conversation's messages are the same again and again."""
    return msgpack.ExtType(_TENSOR, msgpack.packb((*descriptor, index)))


@lru_cache(maxsize=1024)
def _read_descriptor(payload: bytes, max_dims: int) -> tuple[Descriptor, object]:
    """A valid descriptor, and the index that a peer gives for its frame."""
    if len(payload) > _MAX_DESCRIPTOR_BYTES:
        raise LimitError("a tensor's descriptor is too long", bytes=len(payload))
    fields = msgpack.unpackb(payload, use_list=False, max_array_len=_MAX_DESCRIPTOR_BYTES)
    if type(fields) is not tuple or len(fields) != 4:
        raise WireError("a tensor's descriptor is not [dtype, shape, encoding, frame]")
    dtype, shape, encoding, index = fields
    return describe(dtype, shape, encoding, max_dims), index


def check_sizes(frames: Sequence[Buffer], limits: Limits) -> list[memoryview]:
    """The frames as views, once their number and sizes are within the limits; nothing is decoded.

    Raises:
        LimitError: there are too few or too many frames or bytes.
    """
    if not 2 <= len(frames) <= limits.max_frames:
        raise LimitError("too few or too many frames", frames=len(frames), most=limits.max_frames)
    sizes = [len(frame) for frame in frames]
    if sizes[0] > _MAX_TOPIC_BYTES:
        raise LimitError("topic is too long", bytes=sizes[0], most=_MAX_TOPIC_BYTES)
    if max(sizes) > limits.max_frame_bytes or sum(sizes) > limits.max_message_bytes:
        raise LimitError("message is too large", bytes=sum(sizes), most=limits.max_message_bytes)
    return [memoryview(frame) for frame in frames]


def _read(views: Sequence[memoryview], limits: Limits) -> tuple[Envelope, int]:
    """The envelope in frames of checked sizes, and how many of them it consists of."""
    if len(views) < 2:
        raise WireError("a message has a topic and a header", frames=len(views))
    incoming = _Incoming(views[2:], limits)
    head = header.read(views[1], incoming.extension, limits)
    if head.kind not in KINDS:
        raise WireError("unknown kind", kind=head.kind)
    try:
        message = KINDS[head.kind].model_validate(head.body)
        topic = str(views[0], "ascii")
    except ValidationError as error:
        raise _invalid_field(head, error) from None
    except UnicodeDecodeError:
        raise WireError("topic is not ASCII", topic=bytes(views[0])) from None
    envelope = Envelope(topic, head.run, head.sender, head.incarnation, head.number, message)
    violation = envelope.violation()
    if violation:
        raise WireError(violation, topic=topic, run=head.run, sender=head.sender)
    return envelope, 2 + len(incoming.taken)


def _invalid_field(head: Header, error: ValidationError) -> WireError:
    """The first invalid field of a message, without its value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return WireError("a field is invalid", kind=head.kind, sender=head.sender, field=where, expected=first["msg"])


def _sender(envelope: Envelope) -> tuple[str, str, int]:
    return envelope.run, envelope.sender, envelope.incarnation
