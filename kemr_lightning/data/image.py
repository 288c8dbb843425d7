"""Read image files as one 8-bit intensity channel, the only form in which the rest of the package sees images.

Colour is converted to luma (ITU-R BT.601), rounded so that equal channels give exactly their common value: a grey image
replicated to RGB is the same image. Pixels of more than 8 bits are scaled to 0-255 by the image's own percentile window
(`WINDOW`), which is recorded. EXIF orientation is applied, as viewers and Labelme do. An alpha channel is ignored.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from kemr_lightning.core.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""File name extensions, in lower case, of the files that count as images."""

WINDOW = (0.1, 99.9)
"""Percentiles of the intensities that become 0 and 255 in an image of more than 8 bits."""

LARGEST = 500_000_000
"""Pixels that a large scan may have. Images of more than twice as many are refused as decompression bombs."""

LARGEST_MASK = 100_000_000
"""Pixels that the mask of one instance may have where the size of its image is not known."""

Image.MAX_IMAGE_PIXELS = LARGEST  # Pillow's limit is lower, and can only be set for the whole process.

_EXIF_ORIENTATION = 0x0112
_STRIP = 2_000_000
"""Number of pixels converted at a time."""

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

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_DEEP_MODES = ("I", "F")


@dataclass(frozen=True)
class IntensityImage:
    """One decoded image.

    Attributes:
        pixels: ``(H, W)`` uint8 intensity.
        window: The raw intensities ``(low, high)`` that became 0 and 255, or None if the values are the file's own.
        pages: Number of pages in the file.
        orientation: The file's EXIF orientation (1-8). It has been applied unless the reader was told not to.
    """

    pixels: npt.NDArray[np.uint8]
    window: tuple[float, float] | None = None
    pages: int = 1
    orientation: int = 1


def read_image(path: str | Path, page: int = 0, orient: bool = True) -> IntensityImage:
    """Read one image file.

    Args:
        path: PNG, JPEG, BMP or TIFF, or any other format that Pillow can read.
        page: Page of a multi-page TIFF, from 0.
        orient: Whether to apply the EXIF orientation.

    Raises:
        UserError: The file is missing, not an image or damaged, or it has no such page.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot open image {path}: {error.strerror or error}. Check the path.") from error
    return read_image_bytes(data, str(path), page, orient)


def read_image_bytes(data: bytes, name: str = "image data", page: int = 0, orient: bool = True) -> IntensityImage:
    """Decode an image that is already in memory.

    Args:
        data: The bytes of an image file.
        name: What to call the image in error messages.
        page: Page of a multi-page TIFF, from 0.
        orient: Whether to apply the EXIF orientation.

    Raises:
        UserError: The bytes are not an image or are damaged, or there is no such page.
    """
    try:
        raw, orientation, pages = _decode(data, page)
    except EOFError as error:
        raise UserError(f"{name} has no page {page}. Pages count from 0.") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a readable image. Convert it to PNG, JPEG, BMP or TIFF.") from error
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise UserError(f"{name} cannot be decoded ({_one_line(error)}). Replace the damaged file.") from error
    image = to_intensity(raw)
    pixels = _orient(image.pixels, orientation) if orient else image.pixels
    return IntensityImage(np.ascontiguousarray(pixels), image.window, pages, orientation)


def image_size(path: str | Path) -> tuple[int, int]:
    """Read the size ``(H, W)`` of an image after EXIF orientation, from the file's header alone.

    Raises:
        UserError: The file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            # For TIFFs, some versions of Pillow report the upright size; the tags hold the stored one.
            stored = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
            width, height = (int(side) for side in stored)
            # In a PNG, EXIF data may follow the pixels; looking for it there would decode them.
            turned = (image.format != "PNG" or "exif" in image.info) and _orientation(image) >= 5
    except UnidentifiedImageError:
        height, width = read_image(path).pixels.shape
        return int(height), int(width)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot open image {path} ({_one_line(error)}). Check the file.") from error
    return (width, height) if turned else (height, width)


def shows_everywhere(path: str | Path) -> bool:
    """Tell from a file's header whether common viewers, Labelme among them, all show the image as it is.

    Viewers differ on pixels of more than 8 bits, CMYK, palettes in formats other than PNG, and TIFFs with an EXIF
    orientation; some cannot show them at all. False also for files that cannot be opened.
    """
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(26)
            stream.seek(0)
            with Image.open(stream) as image:
                mode, name = image.mode, image.format
                bits, turned = 8, False
                if isinstance(image, TiffImageFile):
                    bits, turned = max(image.tag_v2.get(258, (1,))), _orientation(image) != 1
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return False
    if turned or bits > 8 or (name == "PNG" and head[24] > 8):
        return False
    return mode in ("1", "L", "LA", "RGB", "RGBA") or (mode in ("P", "PA") and name == "PNG")


def to_intensity(array: npt.NDArray[Any]) -> IntensityImage:
    """Convert an array of pixels to one 8-bit intensity channel.

    Args:
        array: ``(H, W)`` or ``(H, W, C)`` with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Bool becomes 0 and
            255, uint8 keeps its values, and any other integer or float type is scaled by its own percentile window.

    Returns:
        The intensity, with the window if there was one.

    Raises:
        UserError: The array has another shape or type, or no pixels.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or array.size == 0:
        raise UserError(f"an image cannot have shape {array.shape}. Give (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype.kind not in "buif":
        raise UserError(f"an image cannot be of type {array.dtype}. Give uint8, uint16 or float pixels.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    channels = array if array.ndim == 3 else array[:, :, None]
    if channels.shape[2] in (2, 4):
        channels = channels[:, :, :-1]
    if array.dtype == np.uint8:
        return IntensityImage(_luma8(channels))
    grey = channels[:, :, 0] if channels.shape[2] == 1 else _luma(channels)
    if grey.dtype.kind == "f":
        grey = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (float(value) for value in np.percentile(grey, WINDOW))
    if high <= low:
        low, high = float(grey.min()), float(grey.max())
    pixels = np.zeros(grey.shape, dtype=np.uint8)
    for rows in _strips(grey) if high > low else ():
        scaled = (grey[rows].astype(np.float64) - low) * (255.0 / (high - low))
        pixels[rows] = np.rint(scaled.clip(0, 255))
    return IntensityImage(pixels, (low, high))


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
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > LARGEST_MASK or (largest and (height > largest[0] or width > largest[1])):
                raise UserError(f"a mask of {width}x{height} pixels is larger than its image. Draw it again.")
            stored = np.asarray(image if image.mode in ("1", "L", "P", "I") else image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"a mask cannot be decoded ({_one_line(error)}). Save it again.") from error
    mask: npt.NDArray[np.bool_] = stored != 0
    return mask


def _strips(array: npt.NDArray[Any]) -> Iterator[slice]:
    """Slices of rows to convert one after the other: a wider copy of a whole large scan may not fit into memory."""
    step = max(1, _STRIP // max(1, array.shape[1]))
    return (slice(start, start + step) for start in range(0, array.shape[0], step))


def _luma(channels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """BT.601 luma of ``(H, W, 3)`` pixels of any type."""
    grey = np.empty(channels.shape[:2], dtype=np.float64)
    for rows in _strips(channels):
        grey[rows] = channels[rows].astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey


def _luma8(channels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """BT.601 luma in whole thousandths; they sum to 1000, so equal channels give exactly their common value."""
    if channels.shape[2] == 1:
        return np.ascontiguousarray(channels[:, :, 0])
    luma = np.empty(channels.shape[:2], dtype=np.uint8)
    for rows in _strips(channels):
        red, green, blue = (channels[rows, :, index].astype(np.uint32) for index in range(3))
        luma[rows] = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return luma


def _decode(data: bytes, page: int) -> tuple[npt.NDArray[Any], int, int]:
    """Decode the stored pixels; return them with the EXIF orientation, not yet applied, and the number of pages."""
    if data[:4] in _TIFF_MAGIC:
        decoded = _decode_deep_tiff(data, page)
        if decoded is not None:
            return decoded
    with Image.open(io.BytesIO(data)) as opened:
        image: Image.Image = opened
        pages = int(getattr(image, "n_frames", 1)) if data[:4] in _TIFF_MAGIC else 1
        if page >= pages:
            raise EOFError(page)
        image.seek(page)
        orientation = _orientation(image)
        if data[:8] == _PNG_MAGIC and data[24] == 16 and data[25] != 0:
            # Pillow would drop the low byte of 16-bit colour.
            deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if deep is None:
                raise ValueError("the PNG data is damaged")
            return (deep[:, :, [2, 1, 0]] if deep.ndim == 3 else deep), orientation, pages
        image.load()
        if image.format == "TIFF" and orientation in _UNDO:
            # Pillow applies the orientation when it loads a TIFF, but for no other format.
            image = image.transpose(_UNDO[orientation])
        if image.mode == "L" or image.mode in _DEEP_MODES or image.mode.startswith("I;16"):
            return np.asarray(image), orientation, pages
        if image.mode in ("1", "LA"):
            return np.asarray(image.convert("L")), orientation, pages
        return np.asarray(image.convert("RGB")), orientation, pages


def _decode_deep_tiff(data: bytes, page: int) -> tuple[npt.NDArray[Any], int, int] | None:
    """Decode a TIFF page of more than 8 bits; None leaves 8-bit pages, and codecs that tifffile lacks, to Pillow."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = len(file.pages)
            if page >= pages:
                raise EOFError(page)
            part: Any = file.pages[page]
            if part.dtype is None or part.dtype.itemsize == 1:
                return None
            array = np.asarray(part.asarray())
            # Planar colour has its channels first. Of other stacks within a page only the first plane is read.
            if part.axes.startswith("S") and array.ndim == 3:
                array = np.moveaxis(array, 0, 2)
            while array.ndim > 3 or (array.ndim == 3 and not part.axes.endswith("S") and not part.axes.startswith("S")):
                array = array[0]
            if array.ndim == 3 and array.shape[2] > 4:
                array = array[:, :, :3]
            if part.photometric == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind == "u":
                array = np.iinfo(array.dtype).max - array
            tag = part.tags.get(274)
            return array, int(tag.value) if tag is not None else 1, pages
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, ImportError):
        return None


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
