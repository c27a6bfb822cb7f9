"""How members learn the key of a sender's group messages; see PROTOCOL.md, "Encrypted messages"."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.base import Message
from protocol.topics import LARGEST

GROUP_KEY_BYTES = 32


class GroupKeyGrant(Message):
    """Lets the receiver decrypt the sender's group messages from now on; itself encrypted to the receiver alone.

    Attributes:
        epoch: counts the sender's group keys, from 1.
        key: AES-256-GCM, `GROUP_KEY_BYTES` bytes.
    """

    kind: ClassVar[str] = "group_key_grant"
    numbered: ClassVar[bool] = True

    epoch: Annotated[int, Field(ge=1, le=LARGEST)]
    key: Annotated[bytes, Field(min_length=GROUP_KEY_BYTES, max_length=GROUP_KEY_BYTES, repr=False)]
