"""Decodes image files: what Pillow reads, .npy arrays, and DICOM (pydicom).

The content says which format it is, not the name. Bit depths are kept, transparency is composed over a background, EXIF
orientation is applied, and of several frames the first is taken; `DecodedImage.conversions` names what was done.
Whatever a decoder raises is an `UnreadableImage`. Knows no folder, no class and no size that images should
have. Imports no torch.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fednet.data.dicom import dicom_is_colour, is_dicom, read_dicom
from fednet.data.intensity import Limits, scaled
from fednet.data.listing import ImageRef
from fednet.errors import DataError, UnreadableImage
from fednet.text import plain_text

Image.init()
FORMATS = tuple(
    name for name in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF") if name in Image.OPEN
)
"""Of Pillow's formats, as it was built, those that it decodes by itself: no other program is started by a file."""
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".npy", ".dcm", ".dicom"}
)
"""Endings, in lower case, of the files that are looked at in a folder; DICOM files without one are, too."""
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
WHITE = 1.0
_NUMPY = b"\x93NUMPY"
_HEAD = 132
"""Bytes that suffice to tell the formats apart which Pillow does not know."""
MAX_FILE_BYTES = 1 << 30
"""Of a file of one image."""


@dataclass(frozen=True)
class DecodedImage:
    """The content of an image file.

    Attributes:
        values: float32 (c, h, w) in [-1, 1], c 1 (grey) or 3 (RGB).
        kind: its format and how it stores pixels, for example "PNG RGBA 16 bits".
        conversions: what was done to get from one to the other, in words; () for plain 8-bit grey or RGB.
    """

    values: NDArray[np.float32]
    kind: str
    conversions: tuple[str, ...]


@dataclass(frozen=True)
class _Stored:
    """Pixels as a file stores them: (h, w, c), with alpha as the last of 2 or 4 channels."""

    pixels: NDArray[np.generic]
    kind: str
    conversions: tuple[str, ...] = ()


def decode(
    source: ImageRef | bytes,
    *,
    background: float = WHITE,
    limits: Limits | None = None,
    size: tuple[int, int] | None = None,
    name: str = "",
) -> DecodedImage:
    """Decodes a file, its content, or an image that is no file.

    Args:
        source: a path, the bytes of a file, or an item, whose pixels have ranges as those of .npy files.
        background: what shows through transparent pixels, in [-1, 1].
        limits: the values that become black and white where a file has more than 8 bits; None: 16-bit integers use
            their full range, floats must lie in [0, 1], DICOM uses its window or else its percentiles.
        size: width and height; any other is refused before it is decoded.
        name: what to call it in errors; by default the path, or the item's own name.

    Raises:
        UnreadableImage: it is no image, damaged, too large, of another size, or holds values of unknown range.
        DataError: it needs a library that is not installed.
    """
    name = name or ("the file" if isinstance(source, bytes) else str(source))
    try:
        content = _content(source)
        if isinstance(content, np.ndarray):
            stored = _array(content, "array")
            _require_size(stored.pixels.shape[1::-1], size)
            return _composed(stored, background, limits)
        if is_dicom(content):
            values, kind, conversions = read_dicom(content, limits, size)
            return DecodedImage(_channels_first(values), kind, conversions)
        stored = _numpy(content) if content.startswith(_NUMPY) else _pillow(content, size)
        _require_size(stored.pixels.shape[1::-1], size)
        return _composed(stored, background, limits)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like at damaged files
        raise UnreadableImage(name, reason(error)) from error


@contextmanager
def telling_the_remedy() -> Iterator[None]:
    """Says what to do about an image of a data set that cannot be read."""
    try:
        yield
    except UnreadableImage as error:
        remedy = "mend it, or set data.unreadable: skip; `fednet data` lists all such files"
        raise UnreadableImage(error.path, f"{error.reason}; {remedy}") from error


def is_colour(image: ImageRef) -> bool:
    """Whether an image has colours, as a file's header says; decodes no pixel.

    Raises:
        UnreadableImage: it is no image, or its header is damaged.
        DataError: it needs a library that is not installed.
    """
    try:
        if isinstance(image, Path):
            with _regular(image).open("rb") as file:
                return _has_colours(image, file.read(_HEAD))
        content = image.load()
        if isinstance(content, np.ndarray):
            return bool(_image_shape(content).shape[2] > 2)
        return _has_colours(io.BytesIO(content), content[:_HEAD])
    except DataError:
        raise
    except Exception as error:  # as above
        raise UnreadableImage(str(image), reason(error)) from error


def _has_colours(file: Path | io.BytesIO, head: bytes) -> bool:
    if is_dicom(head):
        return dicom_is_colour(file)
    if head.startswith(_NUMPY):
        lazily: Literal["r"] | None = "r" if isinstance(file, Path) else None
        return bool(_image_shape(np.load(file, mmap_mode=lazily, allow_pickle=False)).shape[2] > 2)
    with Image.open(file, formats=FORMATS) as image:
        return not _is_grey(image)


def _content(source: ImageRef | bytes) -> bytes | NDArray[np.generic]:
    if isinstance(source, bytes):
        return source
    return _regular(source).read_bytes() if isinstance(source, Path) else source.load()


def _regular(path: Path) -> Path:
    """A path whose file ends: a pipe would be waited for, and a device read, without end.

    Raises:
        ValueError: it is something else, or too large.
        OSError: there is nothing.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"it has {status.st_size} bytes, and {MAX_FILE_BYTES} are the most")
    return path


def is_image_file(path: Path) -> bool:
    """Whether a file in a folder is meant to be an image: by its ending, or as DICOM without one."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix and not suffix[1:].isdigit():  # PACS name files by identifiers such as 1.2.840.113619
        return False
    with suppress(OSError, ValueError), _regular(path).open("rb") as file:
        return is_dicom(file.read(_HEAD))
    return False


def reason(error: BaseException) -> str:
    """What a decoder's error says, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return f"none of the formats {', '.join(FORMATS)}, npy, DICOM"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return plain_text(str(error)) or type(error).__name__


def _pillow(content: bytes, size: tuple[int, int] | None) -> _Stored:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        mode, deep, done = image.mode, _colour_of_16_bits(image), list[str]()
        stored = str(_decoder(image)[1])
        kind = f"{image.format} {mode}{' 16 bits' if deep else ''}"
        _require_size(image.size, size, either_way=True)
        oriented = image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)  # may decode
        if getattr(image, "is_animated", False):
            done.append("first of several frames")
        if oriented:
            done.append("EXIF orientation")
        if deep and image.format == "PNG":
            return _Stored(_png_of_16_bits(content, stored), kind, tuple(done))
        if deep:
            done.append("8 of 16 bits")
        target = "L" if _is_grey(image) else "RGB"
        pixels = ImageOps.exif_transpose(image)
        if mode[0] in "IF":
            return _Stored(_wide(np.asarray(pixels), image), kind, tuple(done))
        if mode.rstrip("Aa") not in ("1", target):
            done.append(f"{'palette' if mode[0] == 'P' else mode} to {'grey' if target == 'L' else target}")
        if pixels.has_transparency_data and mode != "1":
            target += "A"
        return _Stored(_image_shape(np.asarray(pixels.convert(target))), kind, tuple(done))


def _is_grey(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has no colours, or only a palette of greys."""
    if image.mode[0] != "P" or image.palette is None:
        return image.mode.partition(";")[0] in GREY_MODES or str(_decoder(image)[1]).startswith("LA;16")
    stored = image.palette.rawmode or image.palette.mode
    entries = np.frombuffer(bytes(image.palette.palette), dtype=np.uint8)
    colours = entries[: len(entries) // len(stored) * len(stored)].reshape(-1, len(stored))[:, :3]
    return bool((colours == colours[:, :1]).all())


def _colour_of_16_bits(image: Image.Image) -> bool:
    """Whether Pillow would read 16-bit colour channels and keep 8 bits of them."""
    if image.mode[0] in "IF":
        return False
    codec, arguments = _decoder(image)
    if codec == "ppm" and isinstance(arguments, tuple):
        return int(arguments[-1]) > np.iinfo(np.uint8).max
    return ";16" in str(arguments)


def _decoder(image: Image.Image) -> tuple[str, object]:
    """The name of Pillow's decoder for an image that is not loaded yet, and its arguments: how pixels are stored."""
    tiles = getattr(image, "tile", None)
    return (tiles[0][0], tiles[0][3]) if tiles else ("", None)


def _png_of_16_bits(content: bytes, stored: str) -> NDArray[np.uint16]:
    """(h, w, 2 to 4) with all 16 bits, of which Pillow keeps 8: it reads the first bytes, then the second ones.

    Args:
        content: the file.
        stored: Pillow's raw mode for it: "RGB;16B", "RGBA;16B" or "LA;16B", whose four bytes Pillow takes for RGBA.
    """
    if stored == "LA;16B":
        return _png_as(content, "RGBA").view(">u2").astype(np.uint16)
    first, second = (_png_as(content, stored[:-1] + order).astype(np.uint16) for order in "BL")
    return first << np.uint16(8) | second


def _png_as(content: bytes, stored: str) -> NDArray[np.uint8]:
    """The pixels of a PNG, oriented, as if its values were stored in another of Pillow's raw modes."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        image.tile = [tile._replace(args=stored) for tile in image.tile]
        return np.asarray(ImageOps.exif_transpose(image))


def _wide(pixels: NDArray[np.generic], image: Image.Image) -> NDArray[np.generic]:
    """Pixels of one channel with more than 8 bits; PNG and PGM hold 16, whatever integer Pillow reads them as."""
    wide = _image_shape(pixels)
    return wide.astype(np.uint16) if image.mode[0] == "I" and image.format in ("PNG", "PPM") else wide


def _numpy(content: bytes) -> _Stored:
    return _array(np.load(io.BytesIO(content), allow_pickle=False), "npy")


def _array(array: NDArray[np.generic], kind: str) -> _Stored:
    if array.size > 2 * (Image.MAX_IMAGE_PIXELS or array.size):
        raise ValueError(f"{array.size} values are too many for an image")
    return _Stored(_image_shape(array), f"{kind} {array.dtype}")


def _image_shape(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """(h, w), (h, w, c) or, with 1 or 3 channels, (c, h, w) as (h, w, c) with at most 4 channels."""
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and array.shape[2] > 4 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
        raise ValueError(f"an array {array.shape} is no image: expected (h, w), (h, w, channels) or (channels, h, w)")
    return array


def _require_size(given: tuple[int, ...], size: tuple[int, int] | None, *, either_way: bool = False) -> None:
    allowed = (size, size[::-1]) if size and either_way else (size,)
    if size is not None and given not in allowed:
        raise ValueError(
            f"it has {given[0]} x {given[1]} pixels; expected {size[0]} x {size[1]}: crop or resize it first"
        )


def _composed(stored: _Stored, background: float, limits: Limits | None) -> DecodedImage:
    """Pixels in [-1, 1], those that are transparent over the background."""
    pixels, done = stored.pixels, stored.conversions
    if pixels.shape[2] in (1, 3):
        return DecodedImage(_channels_first(scaled(pixels, limits)), stored.kind, done)
    alpha = (scaled(pixels[:, :, -1:]) + 1) / 2
    values = (scaled(pixels[:, :, :-1], limits) * alpha + background * (1 - alpha)).astype(np.float32)
    done = (*done, "transparency over the background") if alpha.min() < 1 else done
    return DecodedImage(_channels_first(values), stored.kind, done)


def _channels_first(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)
