"""The key under which a node closes what it says to all; see PROTOCOL.md, "Closed messages", and `protocol.security.group_encryption`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.base import Message
from protocol.topics import LARGEST


class GroupKeyGrant(Message):
    """The receiver may read what the sender says to all from now on; it travels closed to the receiver alone.

    Attributes:
        epoch: counts the sender's keys, from 1.
        key: 32 bytes, as hexadecimal digits.
    """

    kind: ClassVar[str] = "group_key_grant"
    numbered: ClassVar[bool] = True

    epoch: Annotated[int, Field(ge=1, le=LARGEST)]
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
