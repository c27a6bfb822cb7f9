"""How much a receiver accepts before it has understood anything.

Every bound here is checked before the memory that it bounds is taken. Senders keep to the same bounds, so that
what one node can say every other node can hear.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """The bounds of one message.

    Attributes:
        max_frames: frames of one multipart message; the default is topic, header and 256 tensors, the two frames that
            a `Retransmission` puts before them, the seals of both, and a lid.
        max_frame_bytes: bytes of one tensor's frame, and of one tensor once it is decoded.
        max_message_bytes: bytes of all frames together, and of all tensors once they are decoded.
        max_header_bytes: bytes of the header, in which everything but the tensors travels; the largest `Hello` fits.
        max_tensors: tensors of one message.
        max_dims: dimensions of one tensor.
        max_depth: maps and arrays within each other in the header; the deepest message needs four.
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
"""What a node accepts unless its configuration says otherwise."""
