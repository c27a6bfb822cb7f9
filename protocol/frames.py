"""The type of a frame. Knows nothing of what a frame holds."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
"""A frame: contiguous bytes, whose `len` is their number."""
