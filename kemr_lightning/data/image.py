"""Read image files as one 8-bit intensity channel, the only form in which the rest of the package sees images.

The same pixels give the same intensities whatever the file's format, see `kemr_lightning.data.intensity`. EXIF
orientation is applied, as viewers and Labelme do.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.intensity import Channel, IntensityImage, RawImage, to_intensity, valid_pixels
from kemr_lightning.data.tiff import MAGIC, UnreadableTiffError, decode_tiff, one_line, open_tiff

log = logging.getLogger(__name__)

__all__ = [
    "DEFAULT_READING",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "IntensityImage",
    "Reading",
    "decode_mask",
    "image_size",
    "read_image",
    "read_image_bytes",
    "shows_everywhere",
    "tell_channels",
    "to_intensity",
    "with_reading",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""File name extensions, in lower case, of the files that count as images."""

MAX_PIXELS = 500_000_000
"""Pixels that a large scan may have. A file that claims more is refused before anything is decoded."""

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "JPEG2000", "PPM")
"""Pillow's names of the formats that are read, whatever a file is called. Some others would start programs."""

LARGEST_MASK = 100_000_000
"""Pixels that the mask of one instance may have where the size of its image is not known."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's limit is lower, and can only be set for the whole process.

_EXIF_ORIENTATION = 0x0112

_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""The transpose that takes an upright image back to its stored orientation, by EXIF orientation."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_DEEP_MODES = ("I", "F")


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        channel: Which channel of files with several is read, by name or number from 1; None: by the rule of
            `kemr_lightning.data.intensity.RawImage.intensity`.
        max_pixels: Files of more pixels are refused.

    Raises:
        SettingError: A value makes no sense.
    """

    channel: Channel = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        whole = isinstance(self.max_pixels, int) and not isinstance(self.max_pixels, bool)
        if not whole or self.max_pixels < 1:
            raise SettingError("max_pixels", self.max_pixels, "is not a number of pixels", "Give a whole number from 1")
        name = self.channel
        if isinstance(name, bool) or not isinstance(name, str | int | None) or name == "" or name == 0:
            raise SettingError("channel", name, "is not a channel", "Give its name, or its number from 1")


DEFAULT_READING = Reading()


@dataclass(frozen=True)
class _Decoded:
    """An image as stored: the EXIF orientation is not applied yet."""

    raw: RawImage
    orientation: int
    pages: int


def with_reading(load: Callable[..., IntensityImage], reading: Reading) -> Callable[..., IntensityImage]:
    """A function that decodes an image, with a reading other than the default as its argument ``reading``."""
    return load if reading == DEFAULT_READING else partial(load, reading=reading)


def tell_channels(counts: Mapping[str, int]) -> None:
    """Log which channels images were read from.

    Args:
        counts: Number of images by `IntensityImage.channel`.
    """
    for channel, count in sorted(counts.items()):
        log.info("%d images are read from %s; the setting channel chooses another", count, channel)


def read_image(
    path: str | Path, page: int = 0, orient: bool = True, reading: Reading = DEFAULT_READING
) -> IntensityImage:
    """Read one image file.

    Args:
        path: PNG, JPEG, BMP or TIFF, or another of `FORMATS`.
        page: Number of the image in a TIFF with several, from 0.
        orient: Whether to apply the EXIF orientation.
        reading: Which channel, and how large an image may be.

    Raises:
        UserError: The file is missing, not an image, damaged or too large, or it has no such page or channel.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot open image {path}: {error.strerror or error}. Check the path.") from error
    return read_image_bytes(data, str(path), page, orient, reading)


def read_image_bytes(
    data: bytes,
    name: str = "image data",
    page: int = 0,
    orient: bool = True,
    reading: Reading = DEFAULT_READING,
) -> IntensityImage:
    """Decode an image that is already in memory.

    Args:
        data: The bytes of an image file.
        name: What to call the image in error messages.
        page: Number of the image in a TIFF with several, from 0.
        orient: Whether to apply the EXIF orientation.
        reading: Which channel, and how large an image may be.

    Raises:
        UserError: The bytes are not an image, are damaged or hold one that is too large, or there is no such page or
            channel.
    """
    try:
        decoded = _decode(data, page, reading.max_pixels)
    except EOFError as error:
        raise UserError(f"{name} has no page {page}. Pages count from 0.") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a readable image. Convert it to PNG, JPEG, BMP or TIFF.") from error
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise UserError(f"{name} cannot be decoded ({one_line(error)}). Replace the damaged file.") from error
    try:
        image = decoded.raw.intensity(reading.channel)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    pixels = _orient(image.pixels, decoded.orientation) if orient else image.pixels
    return IntensityImage(np.ascontiguousarray(pixels), image.window, decoded.pages, decoded.orientation, image.channel)


def image_size(path: str | Path, orient: bool = True) -> tuple[int, int]:
    """Read the size ``(H, W)`` of an image from the file's header alone.

    Args:
        path: The file.
        orient: Whether the EXIF orientation counts.

    Raises:
        UserError: The file is missing or not an image.
    """
    try:
        with Path(path).open("rb") as stream:
            size, orientation = _header(stream)
    except UnidentifiedImageError:
        height, width = read_image(path, orient=orient).pixels.shape
        return int(height), int(width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot open image {path} ({one_line(error)}). Check the file.") from error
    return size[::-1] if orient and orientation >= 5 else size


def _header(stream: Any) -> tuple[tuple[int, int], int]:
    """The stored size ``(H, W)`` and the EXIF orientation of an image file."""
    is_tiff = stream.read(4) in MAGIC
    stream.seek(0)
    if is_tiff:
        try:
            with open_tiff(stream) as images:
                return images[0].size, images[0].orientation
        except UnreadableTiffError:
            stream.seek(0)
    with Image.open(stream, formats=FORMATS) as image:
        # For TIFFs, some versions of Pillow report the upright size; the tags hold the stored one.
        stored = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
        # In a PNG, EXIF data may follow the pixels; looking for it there would decode them.
        turned = image.format != "PNG" or "exif" in image.info
        return (int(stored[1]), int(stored[0])), _orientation(image) if turned else 1


def shows_everywhere(path: str | Path) -> bool:
    """Tell from a file's header whether common viewers, Labelme among them, all show the image as it is.

    Viewers differ on pixels of more than 8 bits, CMYK, palettes in formats other than PNG, TIFFs with an EXIF
    orientation, and TIFFs with several channels or with a thumbnail before the image; some cannot show them at all.
    False also for files that cannot be opened.
    """
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(26)
            stream.seek(0)
            if head[:4] in MAGIC:
                with open_tiff(stream) as images:
                    if not images[0].is_plain or images[0].orientation != 1:
                        return False
                stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                mode, name = image.mode, image.format
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return False
    if name == "PNG" and head[24] > 8:
        return False
    return mode in ("1", "L", "LA", "RGB", "RGBA") or (mode in ("P", "PA") and name == "PNG")


def decode_mask(data: bytes, largest: tuple[int, int] | None = None) -> npt.NDArray[np.bool_]:
    """Decode a mask from the bytes of an image file.

    Args:
        data: The bytes of a black and white image; a palette image is read by its indices.
        largest: ``(H, W)`` that the mask may have, those of its image; a larger one is refused before it is decoded.
            None allows `LARGEST_MASK` pixels.

    Returns:
        ``(H, W)`` bool, True where the stored value is not 0.

    Raises:
        UserError: The bytes are not an image, or the mask is too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST_MASK or (largest and (height > largest[0] or width > largest[1])):
                raise UserError(f"a mask of {width}x{height} pixels is larger than its image. Draw it again.")
            stored = np.asarray(image if image.mode in ("1", "L", "P", "I") else image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"a mask cannot be decoded ({one_line(error)}). Save it again.") from error
    mask: npt.NDArray[np.bool_] = stored != 0
    return mask


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image of ``(H, W)`` that is too large.

    Raises:
        UserError: It is.
    """
    if size[0] * size[1] > max_pixels:
        shown = f"{size[1]}x{size[0]} pixels are more than max_pixels={max_pixels}"
        raise UserError(f"{shown}. Cut the image into parts, or raise max_pixels.")


def _decode(data: bytes, page: int, max_pixels: int) -> _Decoded:
    """Decode the stored pixels of one image of a file."""
    with ExitStack() as stack:
        if data[:4] in MAGIC:
            try:
                images = stack.enter_context(open_tiff(data))
                if page >= len(images):
                    raise EOFError(page)
                _check_size(images[page].size, max_pixels)
                return _Decoded(decode_tiff(images[page], len(data)), images[page].orientation, len(images))
            except UnreadableTiffError as error:
                if error.deep or page > 0:
                    raise
        return _decode_by_pillow(data, page, max_pixels)


def _decode_by_pillow(data: bytes, page: int, max_pixels: int) -> _Decoded:
    """Decode a file other than a TIFF, or the first page of a TIFF of 8 bits of a kind that tifffile does not read."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        image: Image.Image = opened
        if page >= 1:
            raise EOFError(page)
        _check_size(image.size[::-1], max_pixels)
        orientation = _orientation(image)
        if data[:8] == _PNG_MAGIC and data[24] == 16 and data[25] != 0:
            # Pillow would drop the low byte of 16-bit colour.
            deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if deep is None:
                raise ValueError("the PNG data is damaged")
            return _Decoded(_raw(deep[:, :, [2, 1, 0]] if deep.ndim == 3 else deep), orientation, 1)
        image.load()
        if image.format == "TIFF" and orientation in _UNDO:
            # Pillow applies the orientation when it loads a TIFF, but for no other format.
            image = image.transpose(_UNDO[orientation])
        if image.mode == "L" or image.mode in _DEEP_MODES or image.mode.startswith("I;16"):
            return _Decoded(_raw(np.asarray(image)), orientation, 1)
        return _Decoded(_raw(np.asarray(image.convert("L" if image.mode in ("1", "LA") else "RGB"))), orientation, 1)


def _raw(pixels: npt.NDArray[Any]) -> RawImage:
    return RawImage(pixels, colour=pixels.ndim == 3, valid=valid_pixels(pixels))


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _orient(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn stored pixels upright by the EXIF standard's orientations 1-8."""
    if orientation >= 5:
        pixels = pixels.T
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
