"""What reads bytes that others have made, and with which errors alone it may refuse them.

A target takes bytes. It returns where they are valid, and then it has checked that what was read is written and read
again as the same; it raises one of its errors where they are not. Everything else is a fault: another exception, a
difference, too much time or memory. Messages are frames, each after its length (two bytes).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fednet.data import image_files
from fednet.errors import ModelError, UnreadableImage
from fednet.federated import state, state_file
from fednet.federated.packed_state import PackedState
from fednet.federated.state_storage import StateStorage
from launch.config import document
from launch.config.examples import example_texts
from launch.config.schema import ClusterConfig
from launch.config.validation import validate_model
from launch.errors import ConfigError
from protocol import codec, header, trail
from protocol.codec import Envelope
from protocol.errors import KeyFormatError, TrailError, WireError
from protocol.frames import Buffer
from protocol.limits import DEFAULT
from protocol.messages import Hello, Retransmission, Welcome
from protocol.security import keys
from protocol.security.authentication import NullSecurity
from protocol.security.group_encryption import KeyedSecurity
from protocol.topics import LARGEST

CORPUS = Path(__file__).parent / "corpus"
VECTORS = Path(__file__).parent.parent / "vectors"
_LENGTH_BYTES = 2
_INCARNATION_BYTES = 8

_VECTOR: Mapping[str, Any] = json.loads((VECTORS / "keys" / "anna.json").read_text())
ANNA, BEN = (keys.PrivateKeys(role="client", **each) for each in _VECTOR["private"])
"""Keys that no node uses: of the peer that sends, and of the node that reads."""
BEN_INCARNATION = 0x17979CFE362A0002
"""The incarnation that the golden hello names."""


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        read: reads bytes, and checks what it has read.
        refusals: the errors that it may raise.
        golden: makes its first inputs, besides those of the corpus.
    """

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    golden: Callable[[], Iterable[bytes]] = tuple

    def __call__(self, data: bytes) -> bool:
        """Whether bytes are valid; raises what no reader may raise."""
        try:
            self.read(data)
        except self.refusals:
            return False
        return True


def framed(frames: Iterable[bytes]) -> bytes:
    """Frames as one input."""
    return b"".join(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame for frame in frames)


def _frames(data: bytes) -> list[memoryview]:
    """The frames in an input; the last one may be shorter than it says."""
    frames, rest = [], memoryview(data)
    while rest:
        size = int.from_bytes(rest[:_LENGTH_BYTES], "big")
        frames.append(rest[_LENGTH_BYTES : _LENGTH_BYTES + size])
        rest = rest[_LENGTH_BYTES + size :]
    return frames


def _golden_messages() -> list[list[bytes]]:
    texts = [path.read_text() for path in sorted(VECTORS.glob("*.json"))]
    return [[bytes.fromhex(frame) for frame in json.loads(text)["frames"]] for text in texts]


def _golden_security() -> Iterable[bytes]:
    for message in _VECTOR["messages"].values():
        for kind in ("signed", "encrypted"):
            yield b"\0" + bytes(_INCARNATION_BYTES) + framed(map(bytes.fromhex, message[kind]))
    for mode, frames in enumerate(_golden_messages()):
        incarnation = codec.decode(frames, DEFAULT).incarnation
        yield bytes([1 + mode % 2]) + incarnation.to_bytes(_INCARNATION_BYTES, "big") + framed(frames)


def _golden_states() -> Iterable[bytes]:
    yield state.pack({})
    yield state.pack({f"t.{dtype}": torch.ones(2, 3).to(dtype) for dtype in state_file.DTYPES.values()})
    yield state.pack({"w": torch.tensor(0.5), "empty": torch.empty(0, 7), "server/w": torch.zeros(3, dtype=torch.bool)})


def _same(one: object, other: object) -> None:
    assert one == other, f"read again, it differs: {one!r:.500} and {other!r:.500}"


def _codec(data: bytes) -> None:
    """A message without keys."""
    frames = _frames(data)
    envelope = NullSecurity().read(frames, DEFAULT).envelope
    if isinstance(envelope.message, Retransmission):
        envelope = codec.decode(codec.retransmitted_frames(frames), DEFAULT)
    written = [bytes(frame) for frame in codec.encode(envelope)]
    _same(written, [bytes(frame) for frame in codec.encode(codec.decode(written, DEFAULT))])


def _header(data: bytes) -> None:
    def extension(code: int, content: bytes) -> object:
        return code, content

    read = header.read(memoryview(data), extension, DEFAULT)
    _same(repr(read), repr(header.read(memoryview(header.write(read, repr)), extension, DEFAULT)))


def _security(data: bytes) -> None:
    """A message with keys: as it stands there, or as a member signs it and asks for it again, or as it encrypts it."""
    mode, incarnation = data[0] if data else 0, int.from_bytes(data[1 : 1 + _INCARNATION_BYTES], "big")
    frames: Sequence[Buffer] = _frames(data[1 + _INCARNATION_BYTES :])
    ben = KeyedSecurity(keys.Keyring.of(BEN, [ANNA.public]), BEN_INCARNATION)
    if mode and frames:
        anna = KeyedSecurity(keys.Keyring.of(ANNA, [BEN.public]), incarnation)
        if incarnation <= LARGEST:
            welcome = Welcome(receiver_incarnation=BEN_INCARNATION)
            first = Envelope(f"to/{BEN.name}/", "digits", ANNA.name, incarnation, 0, welcome)
            ben.read(anna.encrypt(anna.sign(codec.encode(first))), DEFAULT)
        if grant := anna.group_key_grant():
            ben.accept_group_key(ANNA.name, incarnation, grant)
        frames = anna.sign(frames) if mode % 2 else anna.encrypt(anna.sign(frames))
    ben.claimed_sender(frames)
    envelope = ben.read(frames, DEFAULT, again=bool(mode % 2)).envelope
    ben.refusal(envelope.sender, envelope.message)
    if isinstance(envelope.message, Hello):
        ben.verified_peers((envelope.message.peer, *envelope.message.members))


def _yaml(data: bytes) -> None:
    """A document and overrides, and what its keys may hold."""
    text, *overrides = data.decode("utf-8", "replace").split("\0")
    read = document.parse(text, "cluster.yaml", overrides)
    own = {key: value for key, value in read.values.items() if key in ClusterConfig.model_fields}
    _, problems = validate_model(ClusterConfig, own, read)
    if problems:
        raise ConfigError(*problems)


def _public_keys(data: bytes) -> None:
    read = keys.read_public(data)
    _same(read, keys.read_public(read.text()))
    assert read.fingerprint


def _private_keys(data: bytes) -> None:
    read = keys.read_private(data)
    _same(read, keys.read_private(read.text()))
    _same(read.public, keys.read_public(read.public.text()))


def _safetensors(data: bytes) -> None:
    """A state's bytes, in any order of tensors."""
    packed = state.pack(state.unpack(data))
    _same(packed, state.pack(state.unpack(packed)))
    _same(state.digest(state.unpack(packed)), PackedState.read(StateStorage(packed)).tree.root)


def _state_file(data: bytes) -> None:
    """A state's bytes in the canonical layout."""
    read = PackedState.read(StateStorage(memoryview(bytearray(data))))
    _same(state.pack(read.state), data)
    for start in range(0, len(data), 64):
        for segment in read.layout.segments(start, min(start + 64, len(data))):
            segment.values(data[start : start + 64])


def _trail(data: bytes) -> None:
    read = list(trail.read_trail(data.decode("utf-8", "replace").splitlines()))
    _same(read, list(trail.read_trail(entry.line() for entry in read)))


def _images(data: bytes) -> None:
    values = image_files.decode(data).values
    assert values.dtype == np.float32
    assert values.ndim == 3, values.shape
    assert values.shape[0] in (1, 3), values.shape
    assert bool((np.abs(values) <= 1).all())


TARGETS: Mapping[str, Target] = {
    "codec": Target(_codec, (WireError,), lambda: map(framed, _golden_messages())),
    "header": Target(_header, (WireError,), lambda: (frames[1] for frames in _golden_messages())),
    "security": Target(_security, (WireError,), _golden_security),
    "yaml": Target(_yaml, (ConfigError,), lambda: (text.encode() for text in example_texts().values())),
    "public-keys": Target(
        _public_keys, (KeyFormatError,), lambda: (each.public.text().encode() for each in (ANNA, BEN))
    ),
    "private-keys": Target(_private_keys, (KeyFormatError,), lambda: (each.text().encode() for each in (ANNA, BEN))),
    "safetensors": Target(_safetensors, (ModelError,), _golden_states),
    "state-file": Target(_state_file, (ModelError,), _golden_states),
    "trail": Target(_trail, (TrailError,)),
    "images": Target(_images, (UnreadableImage,)),
}
"""The readers by name; a folder of the corpus has the same."""


def inputs(name: str) -> Sequence[bytes]:
    """The first inputs of a target: its golden ones, and those of the corpus in the order of their names."""
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    return [*TARGETS[name].golden(), *kept]
