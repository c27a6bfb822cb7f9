"""Envelopes as frames and frames as envelopes: `[topic, header, buffer, buffer, ...]`.

A tensor in the body of the header is an extension that names its buffer, whose bytes travel beside the header and are
not copied. PROTOCOL.md is the authority.

What a peer sends is checked from the outside in, each layer before the next is touched: the number and the sizes of
the frames, the header (`protocol.header`), every tensor's description against its frame, the message's own fields,
the envelope, and that every frame was used exactly once. Whatever is wrong is a `WireError`. Knows no sockets and no
clock, and does not know who may say what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
from pydantic import ValidationError
from torch import Tensor

from protocol import header
from protocol.errors import EncodingError, LimitError, WireError
from protocol.header import VERSION, Header
from protocol.limits import DEFAULT, Limits
from protocol.messages import KINDS, Message, Retransmission
from protocol.messages.base import WireValue
from protocol.tensors import Buffer, Encoding, describe, pack, unpack
from protocol.topics import LARGEST, TOPIC, is_name, is_run, is_topic

__all__ = [
    "VERSION",
    "Buffer",
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
_REPAIR_FRAMES = 2
_SEALS = 3  # of a message and of the `Retransmission` around it, and the lid, see `protocol.security.authentication` and `protocol.security.group_encryption`
_REPAIR_BYTES = (
    8192  # room that every message leaves for the `Retransmission` around it, both seals, and closing every frame
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and what every message has.

    Attributes:
        topic: what it is published under; ends in "/".
        run: the run it belongs to.
        sender: the node that says it.
        incarnation: which life of that node.
        number: its place among what this life of the sender said on this topic, from 1; 0 if it is not numbered.
        message: what is said.
    """

    topic: str
    run: str
    sender: str
    incarnation: int
    number: int
    message: Message

    def fault(self) -> str | None:
        """What is wrong with the envelope itself; its message has seen to its own fields."""
        if not is_topic(self.topic):
            return f"topic does not match {TOPIC}"
        if not is_run(self.run) or not is_name(self.sender):
            return "run or sender is not a name"
        if not 0 <= self.incarnation <= LARGEST or not 0 <= self.number <= LARGEST:
            return "incarnation or number is out of range"
        if self.message.numbered != (self.number > 0):
            return "a numbered message has a number from 1, any other has 0"
        return None


def encode(envelope: Envelope, encoding: Encoding = "raw", limits: Limits = DEFAULT) -> list[Buffer]:
    """The frames of a message; tensors' frames are views of the tensors, which must not change from now on.

    Args:
        envelope: what to send.
        encoding: how to write floating point tensors; see `protocol.tensors`. A message that is `exact` is always raw.
        limits: what the receivers accept.

    Returns:
        The topic, the header, and one buffer a tensor.

    Raises:
        EncodingError: the envelope is faulty, a tensor cannot be encoded, or the message is too large.
    """
    fault = envelope.fault()
    if fault:
        raise EncodingError(fault, topic=envelope.topic, run=envelope.run, sender=envelope.sender)
    said = envelope.message
    outgoing = _Outgoing("raw" if said.exact else encoding, limits)
    top = Header(VERSION, said.kind, envelope.run, envelope.sender, envelope.incarnation, envelope.number, dict(said))
    written = header.write(top, outgoing.extension)
    outgoing.check(len(written), said.kind)
    return [envelope.topic.encode(), written, *outgoing.buffers]


def decode(frames: Sequence[Buffer], limits: Limits = DEFAULT, *, signed: bool = False) -> Envelope:
    """The message in the frames that a peer sent.

    Args:
        frames: as they came, without their seal; tensors may lie in them and keep them alive.
        limits: what is accepted.
        signed: whether what a `Retransmission` carries ends in a seal, see `protocol.security.authentication`.

    Returns:
        A valid envelope. What a `Retransmission` carries is valid too, and of the same sender; `decode(retransmitted_frames(frames))`
        reads it.

    Raises:
        WireError: the frames are no such thing.
    """
    views = check_sizes(frames, limits)
    envelope, used = _read(views, limits)
    if isinstance(envelope.message, Retransmission):
        first, used = _read(views[_REPAIR_FRAMES:], limits)
        used += _REPAIR_FRAMES + signed
        if not first.message.numbered:
            raise WireError("only a numbered message is sent again", kind=first.message.kind)
        if _life(first) != _life(envelope):
            raise WireError("resent by another than its sender", sender=envelope.sender, first=first.sender)
    if used != len(views):
        raise WireError("a frame belongs to no tensor", frames=len(views), used=used)
    return envelope


def encode_retransmission(
    frames: Sequence[Buffer], run: str, sender: str, incarnation: int, topic: str
) -> list[Buffer]:
    """The frames of a `Retransmission` that carries the frames of an earlier message, untouched.

    Args:
        frames: what `encode` returned for that message.
        run: its run.
        sender: its sender, who sends it again.
        incarnation: its sender's incarnation.
        topic: where to; the inbox of the peer that asked.
    """
    return [*encode(Envelope(topic, run, sender, incarnation, 0, Retransmission())), *frames]


def retransmitted_frames(frames: Sequence[Buffer]) -> Sequence[Buffer]:
    """The frames that a `Retransmission` carries."""
    return frames[_REPAIR_FRAMES:]


class _Outgoing:
    """The tensors of one message on their way out: gathers their frames while msgpack walks the body."""

    def __init__(self, encoding: Encoding, limits: Limits) -> None:
        self.buffers: list[memoryview] = []
        self._encoding = encoding
        self._limits = limits
        self._tensor_bytes = 0

    def extension(self, value: object) -> object:
        """Stands in for what msgpack does not know: a tensor, or a value within the message."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, WireValue):
            return dict(value)
        raise TypeError(f"{type(value).__name__} is none of the types of a message")

    def _tensor(self, tensor: Tensor) -> msgpack.ExtType:
        descriptor, buffer = pack(tensor, self._encoding)
        size = max(descriptor.tensor_bytes, len(buffer))
        self._tensor_bytes += size
        if size > self._limits.max_frame_bytes or len(descriptor.shape) > self._limits.max_dims:
            raise EncodingError("tensor is too large", shape=descriptor.shape, bytes=size)
        index = len(self.buffers)
        self.buffers.append(buffer)
        return msgpack.ExtType(_TENSOR, msgpack.packb((*descriptor, index)))

    def check(self, header_bytes: int, kind: str) -> None:
        """Holds the whole message against the limits, with room for the two frames of a `Retransmission` before it."""
        limits = self._limits
        if header_bytes > limits.max_header_bytes:
            raise EncodingError("header is too long", kind=kind, bytes=header_bytes, most=limits.max_header_bytes)
        if len(self.buffers) > min(limits.max_tensors, limits.max_frames - 2 - _REPAIR_FRAMES - _SEALS):
            raise EncodingError("message has too many tensors", kind=kind, tensors=len(self.buffers))
        size = header_bytes + self._tensor_bytes
        if size > limits.max_message_bytes - _REPAIR_BYTES:
            raise EncodingError("message is too large", kind=kind, bytes=size, most=limits.max_message_bytes)


class _Incoming:
    """The frames of one message's tensors: each is there to be read once, and all within one budget."""

    def __init__(self, frames: Sequence[memoryview], limits: Limits) -> None:
        self.taken: set[int] = set()
        self._frames = frames
        self._limits = limits
        self._room = limits.max_message_bytes

    def extension(self, code: int, payload: bytes) -> Tensor:
        """Turns an extension in the header into the tensor whose frame it names."""
        if code != _TENSOR:
            raise WireError("unknown extension type", type=code)
        if len(payload) > _MAX_DESCRIPTOR_BYTES:
            raise LimitError("a tensor's description is too long", bytes=len(payload))
        fields = msgpack.unpackb(payload, use_list=False, max_array_len=_MAX_DESCRIPTOR_BYTES)
        if type(fields) is not tuple or len(fields) != 4:
            raise WireError("a tensor's description is not [dtype, shape, encoding, frame]")
        dtype, shape, encoding, index = fields
        descriptor = describe(dtype, shape, encoding, self._limits.max_dims)
        frame = self._take(index)
        self._spend(descriptor.tensor_bytes)
        return unpack(descriptor, frame)

    def _take(self, index: object) -> memoryview:
        if type(index) is not int or not 0 <= index < len(self._frames):
            raise WireError("a tensor names a frame that is not there", frames=len(self._frames))
        if index in self.taken:
            raise WireError("two tensors name one frame", frame=index)
        if len(self.taken) == self._limits.max_tensors:
            raise LimitError("too many tensors", most=self._limits.max_tensors)
        self.taken.add(index)
        return self._frames[index]

    def _spend(self, size: int) -> None:
        self._room -= size
        if size > self._limits.max_frame_bytes or self._room < 0:
            raise LimitError("tensors would grow beyond the limit", bytes=size)


def check_sizes(frames: Sequence[Buffer], limits: Limits) -> list[memoryview]:
    """Counts frames and bytes before anything is read.

    Raises:
        LimitError: there are too few, or too many.
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
    """The envelope in admitted frames, and how many of them it consists of."""
    if len(views) < 2:
        raise WireError("a message has a topic and a header", frames=len(views))
    incoming = _Incoming(views[2:], limits)
    top = header.read(views[1], incoming.extension, limits)
    if top.kind not in KINDS:
        raise WireError("unknown kind", kind=top.kind)
    try:
        message = KINDS[top.kind].model_validate(top.body)
        topic = str(views[0], "ascii")
    except ValidationError as error:
        raise _refusal(top, error) from None
    except UnicodeDecodeError:
        raise WireError("topic is not ASCII", topic=bytes(views[0])) from None
    envelope = Envelope(topic, top.run, top.sender, top.incarnation, top.number, message)
    fault = envelope.fault()
    if fault:
        raise WireError(fault, topic=topic, run=top.run, sender=top.sender)
    return envelope, 2 + len(incoming.taken)


def _refusal(top: Header, error: ValidationError) -> WireError:
    """The first of the faults that the message found in its fields, without the value itself."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return WireError("field is not valid", kind=top.kind, sender=top.sender, field=where, expected=first["msg"])


def _life(envelope: Envelope) -> tuple[str, str, int]:
    return envelope.run, envelope.sender, envelope.incarnation
