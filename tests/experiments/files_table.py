"""Makes files of many formats, reads each as `data.name: folder` does, and prints what happened as a table.

    python tests/experiments/files_table.py --write docs/data.md

Every file holds the same 8 x 6 pixels, grey or in colour, so that the table can say how far the values read are from
those written. `tests/fednet/data/test_image_files.py` checks the bounds here and that the document has this table.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from fednet.data.image_files import decode
from fednet.errors import UnreadableImage

Array = NDArray[Any]
BEGIN, END = "<!-- table of tests/experiments/files_table.py -->", "<!-- end of the table -->"
WIDTH, HEIGHT = 8, 6
GREY = np.linspace(0, 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
COLOUR = np.stack([GREY, GREY[::-1], np.full_like(GREY, 0.2)], axis=2)
ALPHA = np.where(np.arange(WIDTH) < 2, 0.0, 1.0) * np.ones((HEIGHT, 1))
"""Transparent in the two columns on the left."""
EXACT, LOSSY = 1.01 / 255, 0.25
"""Bounds of the largest difference of values in [0, 1]: rounding to 8 bits, and compression of these hard edges."""
REFUSED = "refused"


@dataclass(frozen=True)
class Sample:
    """A file.

    Attributes:
        format: of the file.
        what: its pixels.
        content: its bytes.
        wanted: the values that it stands for, (h, w) or (h, w, 3) in [0, 1]; None where it must be refused.
        bound: of the largest difference.
        limits: `data.range`, where it is needed.
    """

    format: str
    what: str
    content: bytes
    wanted: Array | None
    bound: float = EXACT
    limits: tuple[float, float] | None = None


def over_white(values: Array) -> Array:
    alpha = ALPHA if values.ndim == 2 else ALPHA[:, :, None]
    return values * alpha + 1 - alpha


def integers(values: Array, dtype: type = np.uint8) -> Array:
    return np.asarray(np.round(values * np.iinfo(dtype).max), dtype=dtype)


def with_alpha(values: Array, dtype: type = np.uint8) -> Array:
    return integers(np.dstack([values, ALPHA]), dtype)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def grey() -> Image.Image:
    return Image.fromarray(integers(GREY))


def colour() -> Image.Image:
    return Image.fromarray(integers(COLOUR))


def transparent(kind: str, **options: Any) -> bytes:
    return saved(Image.fromarray(with_alpha(COLOUR)), kind, **options)


def turned(kind: str, **options: Any) -> bytes:
    """The pixels lying on their side, and a tag that says so."""
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    return saved(colour().rotate(90, expand=True), kind, exif=exif, **options)


def png_16(pixels: Array, colour_type: int) -> bytes:
    """A PNG of 16 bits a channel, big-endian, which Pillow cannot write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_16(pixels: Array) -> bytes:
    """An uncompressed RGB TIFF of 16 bits a channel, which Pillow cannot write."""
    data, count = pixels.astype("<u2").tobytes(), 10
    after = 8 + 2 + count * 12 + 4
    tags = [(256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, after + 6), (277, 3, 1, 3), (278, 3, 1, HEIGHT), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4) + struct.pack("<3H", 16, 16, 16) + data


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=array.dtype == object)
    return buffer.getvalue()


def dicom(pixels: Array, interpretation: str = "MONOCHROME2", bits: int = 12, **fields: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    file.Rows, file.Columns = HEIGHT, WIDTH
    file.SamplesPerPixel, file.PhotometricInterpretation = (3 if interpretation == "RGB" else 1), interpretation
    file.BitsAllocated, file.BitsStored, file.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    file.PixelRepresentation, file.PixelData = int(pixels.dtype.kind == "i"), pixels.tobytes()
    for name, value in fields.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def samples() -> Iterator[Sample]:
    """All files."""
    for part in (_png, _jpeg, _tiff, _others, _arrays, _dicom, _damaged):
        yield from part()


def _png() -> Iterator[Sample]:
    yield Sample("PNG", "1 bit", saved(Image.fromarray(GREY > 0.5), "PNG"), (GREY > 0.5).astype(float))
    yield Sample("PNG", "grey, 8 bits", saved(grey(), "PNG"), GREY)
    yield Sample("PNG", "grey, 16 bits", png_16(integers(GREY, np.uint16), 0), GREY, 1e-4)
    yield Sample("PNG", "grey with alpha, 8 bits", saved(Image.fromarray(with_alpha(GREY)), "PNG"), over_white(GREY))
    yield Sample("PNG", "grey with alpha, 16 bits", png_16(with_alpha(GREY, np.uint16), 4), over_white(GREY), 1e-4)
    yield Sample("PNG", "grey with a transparent value", saved(grey(), "PNG", transparency=0), np.where(GREY, GREY, 1))
    yield Sample("PNG", "RGB, 8 bits", saved(colour(), "PNG"), COLOUR)
    yield Sample("PNG", "RGB, 16 bits", png_16(integers(COLOUR, np.uint16), 2), COLOUR, 1e-4)
    yield Sample("PNG", "RGB with alpha, 8 bits", transparent("PNG"), over_white(COLOUR))
    yield Sample("PNG", "RGB with alpha, 16 bits", png_16(with_alpha(COLOUR, np.uint16), 6), over_white(COLOUR), 1e-4)
    yield Sample("PNG", "palette", saved(colour().quantize(64), "PNG"), COLOUR, LOSSY)
    black = Image.fromarray(with_alpha(np.zeros_like(COLOUR)))
    yield Sample("PNG", "black on transparent", saved(black, "PNG"), over_white(np.zeros_like(COLOUR)))
    yield Sample(
        "PNG", "animated", saved(colour(), "PNG", save_all=True, append_images=[grey().convert("RGB")]), COLOUR
    )


def _jpeg() -> Iterator[Sample]:
    yield Sample("JPEG", "grey", saved(grey(), "JPEG", quality=95), GREY, LOSSY)
    yield Sample("JPEG", "RGB", saved(colour(), "JPEG", quality=95, subsampling=0), COLOUR, LOSSY)
    yield Sample("JPEG", "CMYK", saved(colour().convert("CMYK"), "JPEG", quality=95), COLOUR, LOSSY)
    yield Sample("JPEG", "EXIF orientation", turned("JPEG", quality=95, subsampling=0), COLOUR, LOSSY)
    pair = saved(colour(), "MPO", save_all=True, append_images=[colour()], quality=95, subsampling=0)
    yield Sample("JPEG", "MPO (two images)", pair, COLOUR, LOSSY)


def _tiff() -> Iterator[Sample]:
    yield Sample("TIFF", "grey, 8 bits", saved(grey(), "TIFF"), GREY)
    yield Sample("TIFF", "grey, 16 bits", saved(Image.fromarray(integers(GREY, np.uint16)), "TIFF"), GREY, 1e-4)
    yield Sample("TIFF", "RGB, LZW", saved(colour(), "TIFF", compression="tiff_lzw"), COLOUR)
    yield Sample("TIFF", "RGB, 16 bits", tiff_16(integers(COLOUR, np.uint16)), COLOUR, 2 * EXACT)
    yield Sample("TIFF", "RGB with alpha", transparent("TIFF"), over_white(COLOUR))
    yield Sample("TIFF", "CMYK", saved(colour().convert("CMYK"), "TIFF"), COLOUR, 2 * EXACT)
    yield Sample("TIFF", "orientation", turned("TIFF"), COLOUR)
    yield Sample("TIFF", "two pages", saved(colour(), "TIFF", save_all=True, append_images=[colour()]), COLOUR)
    yield Sample("TIFF", "float in [0, 1]", saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), GREY, 1e-4)
    large = saved(Image.fromarray((GREY * 3000 - 1000).astype(np.float32)), "TIFF")
    yield Sample("TIFF", "float in [-1000, 2000]", large, None)
    yield Sample("TIFF", "the same, range: [-1000, 2000]", large, GREY, 1e-4, (-1000, 2000))
    yield Sample("TIFF", "grey, 32 bits", saved(Image.fromarray((GREY * 1e6).astype(np.int32)), "TIFF"), None)


def _others() -> Iterator[Sample]:
    yield Sample("GIF", "one frame", saved(grey(), "GIF"), GREY)
    frames = saved(grey(), "GIF", save_all=True, append_images=[Image.new("L", (WIDTH, HEIGHT))])
    yield Sample("GIF", "two frames", frames, GREY)
    yield Sample("GIF", "colour", saved(colour(), "GIF"), COLOUR, LOSSY)
    yield Sample("WebP", "RGB", saved(colour(), "WEBP", lossless=True), COLOUR)
    yield Sample("WebP", "RGB with alpha", transparent("WEBP", lossless=True), over_white(COLOUR))
    yield Sample("WebP", "EXIF orientation", turned("WEBP", lossless=True), COLOUR)
    yield Sample("BMP", "RGB", saved(colour(), "BMP"), COLOUR)
    yield Sample("PPM", "RGB, 8 bits", saved(colour(), "PPM"), COLOUR)
    deep = f"P6 {WIDTH} {HEIGHT} 65535\n".encode() + integers(COLOUR, np.uint16).astype(">u2").tobytes()
    yield Sample("PPM", "RGB, 16 bits", deep, COLOUR, 2 * EXACT)
    deep = f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + integers(GREY, np.uint16).astype(">u2").tobytes()
    yield Sample("PGM", "grey, 16 bits", deep, GREY, 1e-4)
    yield Sample("JPEG 2000", "RGB", saved(colour(), "JPEG2000"), COLOUR)
    yield Sample("AVIF", "RGB", saved(colour(), "AVIF", quality=95), COLOUR, LOSSY)


def _arrays() -> Iterator[Sample]:
    yield Sample("npy", "uint8 (h, w)", npy(integers(GREY)), GREY)
    yield Sample("npy", "uint16 (h, w, 3)", npy(integers(COLOUR, np.uint16)), COLOUR, 1e-4)
    yield Sample("npy", "float32 (3, h, w) in [0, 1]", npy(COLOUR.transpose(2, 0, 1).astype(np.float32)), COLOUR, 1e-4)
    signed = npy((GREY * 2 - 1).astype(np.float32))
    yield Sample("npy", "float32 in [-1, 1]", signed, None)
    yield Sample("npy", "the same, range: [-1, 1]", signed, GREY, 1e-4, (-1, 1))
    yield Sample("npy", "NaN", npy(np.full((HEIGHT, WIDTH), np.nan)), None)
    yield Sample("npy", "objects (a pickle)", npy(np.array([[print]], dtype=object)), None)
    yield Sample("npy", "a volume (h, w, 9)", npy(np.zeros((HEIGHT, WIDTH, 9), np.uint8)), None)


def _dicom() -> Iterator[Sample]:
    pixels = np.round(GREY * 4000).astype(np.uint16)
    window: dict[str, Any] = {"WindowCenter": "2000.5", "WindowWidth": "4001"}
    yield Sample("DICOM", "12 bits with a window", dicom(pixels, **window), GREY, 1e-3)
    yield Sample("DICOM", "12 bits without one", dicom(pixels), GREY, 0.02)
    yield Sample("DICOM", "the same, range: [0, 8000]", dicom(pixels), GREY / 2, 1e-3, (0, 8000))
    units: dict[str, Any] = {
        "RescaleSlope": "1",
        "RescaleIntercept": "-1000",
        "WindowCenter": "1000.5",
        "WindowWidth": "4001",
    }
    yield Sample("DICOM", "Hounsfield units with a window", dicom(pixels, **units), GREY, 1e-3)
    yield Sample("DICOM", "MONOCHROME1", dicom(pixels, "MONOCHROME1", **window), 1 - GREY, 1e-3)
    both = np.stack([pixels, pixels * 0])
    yield Sample("DICOM", "two frames", dicom(both, NumberOfFrames=2, **window), GREY, 1e-3)
    yield Sample("DICOM", "RGB", dicom(integers(COLOUR), "RGB", 8, PlanarConfiguration=0), COLOUR)


def _damaged() -> Iterator[Sample]:
    whole = saved(colour(), "PNG")
    yield Sample("damaged", "a PNG cut off", whole[:60], None)
    yield Sample("damaged", "a JPEG cut off", saved(colour(), "JPEG")[:300], None)
    yield Sample("damaged", "a DICOM file cut off", dicom(np.zeros((HEIGHT, WIDTH), np.uint16))[:-20], None)
    yield Sample("damaged", "an npy file cut off", npy(integers(GREY))[:-5], None)
    yield Sample("damaged", "text", b"no image", None)
    yield Sample("damaged", "an empty file", b"", None)
    huge = whole[:16] + struct.pack(">II", 60_000, 60_000) + whole[24:29]
    yield Sample(
        "damaged", "60000 x 60000 promised", huge + struct.pack(">I", zlib.crc32(huge[12:])) + whole[33:], None
    )
    yield Sample("damaged", "PostScript (a program)", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n", None)


def difference(sample: Sample, values: NDArray[np.float32]) -> float:
    """The largest difference of values in [0, 1]; infinite where the shape is another."""
    wanted = np.atleast_3d(np.asarray(sample.wanted, dtype=float)).transpose(2, 0, 1)
    found = (values.astype(float) + 1) / 2
    return float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")


def outcome(sample: Sample) -> tuple[str, str, str]:
    """How a file was read, what was done to its pixels, and the largest difference; or why it was refused."""
    try:
        image = decode(sample.content, limits=sample.limits)
    except UnreadableImage as error:
        return REFUSED, error.reason, ""
    channels = "grey" if len(image.values) == 1 else "RGB"
    off = difference(sample, image.values) if sample.wanted is not None else float("nan")
    return channels, "; ".join(image.conversions), f"{off:.4f}"


def table() -> str:
    """The table in Markdown."""
    lines = ["| format | pixels | read as | conversions, or why it is refused | largest difference |", "|---" * 5 + "|"]
    lines += ("| " + " | ".join((each.format, each.what, *outcome(each))) + " |" for each in samples())
    return "\n".join(lines)


def main(arguments: list[str], show: Callable[[str], object] = sys.stdout.write) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this document")
    path: Path | None = parser.parse_args(arguments).write
    if path is None:
        show(table() + "\n")
        return
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
