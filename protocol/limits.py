"""The limits of one message, which receivers check before they allocate and senders apply as well.

So every message that a node can send can be received by every other node.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """The bounds of one message.

    Attributes:
        max_frames: frames of one multipart message; the default is topic, header and 256 tensors, the two frames that a
            `Retransmission` puts before them, the signatures of both, and an AEAD header.
        max_frame_bytes: bytes of one tensor's frame, and of one decoded tensor.
        max_message_bytes: bytes of all frames, and of all decoded tensors.
        max_header_bytes: bytes of the header; the largest `Hello` fits.
        max_tensors: tensors of one message.
        max_dims: dimensions of one tensor.
        max_depth: nested maps and arrays in the header; the deepest message needs four.
        max_items: entries of one map or array.
    """

    max_frames: int = 2 + 2 + 256 + 3
    max_frame_bytes: int = 256 * MIB
    max_message_bytes: int = 256 * MIB
    max_header_bytes: int = 288 * KIB
    max_tensors: int = 256
    max_dims: int = 8
    max_depth: int = 8
    max_items: int = 1024


DEFAULT = Limits()
"""The limits of a node whose configuration sets no others."""
