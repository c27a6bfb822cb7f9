"""A picture from a file's bytes, and what only looks like one."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fednet.errors import DataError
from fednet.images import from_bytes
from fednet.methods.novelty.image_decoding import MAX_FILE_BYTES, decode_image

GREY, COLOUR = (1, 6, 4), (3, 6, 4)


def content(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return buffer.getvalue()


def grey() -> Image.Image:
    return Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4) * 10)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_pixels_come_back(kind: Any) -> None:
    found = decode_image(content(grey(), kind), GREY)
    assert torch.equal(found, from_bytes(torch.arange(24, dtype=torch.uint8).view(1, 1, 6, 4) * 10))


def test_grey_becomes_colour_and_colour_grey() -> None:
    assert torch.equal(decode_image(content(grey()), COLOUR), decode_image(content(grey()), GREY).expand(1, 3, 6, 4))
    same = Image.merge("RGB", [grey()] * 3)
    assert torch.equal(decode_image(content(same), GREY), decode_image(content(grey()), GREY))
    assert decode_image(content(same.convert("RGBA")), COLOUR).shape == (1, 3, 6, 4)


@pytest.mark.parametrize("junk", [b"", b"hello", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_picture_is_refused(junk: Any) -> None:
    with pytest.raises(DataError, match=r"x\.png is not a readable image"):
        decode_image(junk, GREY, "x.png")


def test_a_damaged_picture_is_refused() -> None:
    whole = content(grey())
    for cut in range(8, 60, 7):  # well within the pixels
        with pytest.raises(DataError, match="not a readable image"):
            decode_image(whole[:cut], GREY)


def test_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(DataError, match=r"has 6 x 4 pixels; expected 4 x 6"):
        decode_image(content(grey().rotate(90, expand=True)), GREY)


def test_a_bomb_is_refused_by_its_header() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(DataError, match=r"60000 x 60000|not a readable image"):
        decode_image(bomb, GREY)


def test_a_large_file_is_refused_unread() -> None:
    with pytest.raises(DataError, match="bytes"):
        decode_image(bytes(MAX_FILE_BYTES + 1), GREY)


def test_sixteen_bits_are_kept() -> None:
    deep = np.arange(24, dtype=np.uint16).reshape(6, 4) * 1000
    found = decode_image(content(Image.fromarray(deep)), GREY)
    torch.testing.assert_close(found[0, 0], torch.from_numpy(deep.astype(np.float32)) / 65535 * 2 - 1)


def test_formats_that_run_other_programs_are_not_tried() -> None:
    with pytest.raises(DataError, match="not a readable image"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\n", GREY)
