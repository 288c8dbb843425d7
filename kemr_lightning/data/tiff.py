"""What is in a TIFF file: its images, each one page, or one page for each channel.

Pages that are reduced copies, thumbnails or masks by their tags are no images. The axes that OME-TIFF, ImageJ and
tifffile's own files describe tell channels from the other pages of a stack. tifffile and imagecodecs decode.
"""

from __future__ import annotations

import io
import logging
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from kemr_lightning.data.intensity import RawImage, valid_pixels

log = logging.getLogger(__name__)

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFF and BigTIFF files."""

_REDUCED, _MASK = 1, 4
"""Bits of the tag NewSubfileType."""

_NODATA = 42113
"""GDAL's tag for the number that stands for a missing value."""

_CHANNELS_AT_MOST = 64
_GREY = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
_OWN = (*_GREY, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.PALETTE)
_LABEL = re.compile(r"^(c:\d+/\d+\s*)?([zt]:\d+/\d+\s*)*(-\s*)?")
"""What Bio-Formats writes before the names of channels in the labels of an ImageJ stack."""


class UnreadableTiffError(ValueError):
    """A TIFF cannot be decoded here. Pillow may be able to, if its pixels have no more than 8 bits.

    Attributes:
        deep: Whether they have more, so that other decoders could lose some of them.
    """

    def __init__(self, message: str, deep: bool) -> None:
        super().__init__(message)
        self.deep = deep


@dataclass(frozen=True)
class TiffImage:
    """One image of a TIFF file.

    Attributes:
        pages: One page, or one for each channel.
        names: Names of the channels as far as the file gives them.
        first: Whether the image is the file's first page and nothing else.
    """

    pages: tuple[Any, ...]
    names: tuple[str, ...] = ()
    first: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` as stored."""
        return int(self.key.imagelength), int(self.key.imagewidth)

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8."""
        tag = self.key.tags.get(274)
        value = 1 if tag is None else tag.value
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    @property
    def is_deep(self) -> bool:
        """Whether pixels have more than 8 bits, or a sign."""
        bits = self.key.bitspersample
        most = max(bits) if isinstance(bits, tuple) else bits
        return most > 8 or self.key.sampleformat not in (1, 4)

    @property
    def is_plain(self) -> bool:
        """Whether this is the first page, of grey, colour or palette pixels of 8 bits or 1, with or without alpha."""
        plain = self.key.photometric in _OWN and self.key.samplesperpixel - alphas(self.key) in (1, 3)
        return self.first and plain and not self.is_deep

    @property
    def key(self) -> Any:
        """The page that describes all."""
        return self.pages[0].keyframe


@contextmanager
def open_tiff(source: BinaryIO | bytes) -> Iterator[list[TiffImage]]:
    """Find the images of a TIFF file; their pixels can be decoded as long as it is open.

    Args:
        source: The file, or its bytes.

    Raises:
        UnreadableTiffError: The file is damaged.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        file = tifffile.TiffFile(stream)
        images = _images(file)
    except Exception as error:  # the parser raises all kinds of errors on damaged files
        raise UnreadableTiffError(one_line(error), deep=False) from error
    with file:
        yield images


def count_images(path: Path) -> int:
    """Number of images in a TIFF file, from its directories alone; 1 if they cannot be read."""
    try:
        with path.open("rb") as stream, open_tiff(stream) as images:
            return len(images)
    except (OSError, UnreadableTiffError):
        log.debug("images of %s", path, exc_info=True)
        return 1


def decode_tiff(image: TiffImage, length: int) -> RawImage:
    """Decode an image of a TIFF file that is open.

    Args:
        image: The image.
        length: Bytes of the file.

    Raises:
        UnreadableTiffError: It is damaged, or of a kind that is not read.
    """
    key = image.key
    if key.photometric not in _OWN:
        kind = getattr(key.photometric, "name", key.photometric)
        raise UnreadableTiffError(f"pixels of the kind {kind} are not read", image.is_deep)
    try:
        for page in image.pages:
            _check_complete(page, length)
        decoded = [_samples(page) for page in image.pages]
        missing = float(key.nodata) if _NODATA in key.tags else None
    except Exception as error:  # decoders raise all kinds of errors
        raise UnreadableTiffError(one_line(error), image.is_deep) from error
    array = decoded[0] if len(decoded) == 1 else np.concatenate(decoded, axis=2)
    if key.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return RawImage(_coloured(array[:, :, 0], np.asarray(key.colormap)), colour=True)
    valid = valid_pixels(array, missing)
    bits = key.bitspersample
    if array.dtype.kind == "u" and isinstance(bits, int):
        largest = 2**bits - 1
        if key.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = np.asarray(largest - array, dtype=array.dtype)
        if bits < 8:
            array = (array * (255 // largest)).astype(np.uint8)
    elif key.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = -array if array.dtype.kind == "f" else ~array
    single = len(image.pages) == 1
    colour = single and (key.photometric not in _GREY or (array.shape[2] == 3 and not image.names))
    return RawImage(array, colour and array.shape[2] >= 3, image.names, valid)


def alphas(page: Any) -> int:
    """Number of alpha channels of a page: they are its last samples."""
    extra = tuple(page.extrasamples or ())
    marked = sum(int(kind) in (1, 2) for kind in extra)
    # OpenCV writes RGBA without saying that the fourth channel is alpha.
    return 1 if not marked and page.photometric == tifffile.PHOTOMETRIC.RGB and page.samplesperpixel == 4 else marked


def _images(file: tifffile.TiffFile) -> list[TiffImage]:
    pages: list[Any] = list(file.pages)
    kept = [page for page in pages if not _is_copy(page)] or pages
    if not kept:
        raise ValueError("it has no page")
    described = _described(file)
    if described:
        return described
    names = _names(file, 0)
    return [
        TiffImage((page,), names if len(names) == page.samplesperpixel > 1 else (), page is pages[0]) for page in kept
    ]


def _is_copy(page: Any) -> bool:
    """Whether a page is a reduced copy or a mask of another one."""
    old = page.tags.get(255)
    return bool(int(page.subfiletype or 0) & (_REDUCED | _MASK)) or (old is not None and old.value == 2)


def _described(file: tifffile.TiffFile) -> list[TiffImage]:
    """The images of a file whose description tells channels from other pages; none if it does not."""
    if not any(getattr(file, f"is_{kind}") for kind in ("ome", "imagej", "shaped", "fluoview", "stk", "lsm")):
        return []
    images: list[TiffImage] = []
    several = False
    try:
        for number, series in enumerate(file.series):
            if _is_copy(series.keyframe):
                continue
            planes = np.array(_planes(file, series), dtype=object)
            outer = series.axes[: len(series.shape) - 2]
            grid = planes.reshape(series.shape[: len(outer)])
            if "C" in outer and outer.count("C") == 1:
                several = True
                grid = np.moveaxis(grid, outer.index("C"), -1)
                names = _names(file, number)
                count = grid.shape[-1]
                named = names[:count] if len(names) >= count else ()
                images += [TiffImage(tuple(row), named) for row in grid.reshape(-1, count)]
            else:
                images += [TiffImage((page,)) for page in grid.reshape(-1)]
    except Exception:  # descriptions contain anything
        log.debug("series of %s", file.filename, exc_info=True)
        return []
    return images if several else []


def _planes(file: tifffile.TiffFile, series: Any) -> list[Any]:
    """The pages of a series, one for each plane.

    Raises:
        ValueError: Some are missing, or a page is no plane.
    """
    count = int(np.prod(series.shape[:-2], dtype=np.int64))
    pages = list(series.pages)
    if series.axes[-2:] != "YX" or count > 1_000_000:
        raise ValueError("pages are no planes")
    if len(pages) == 1 < count and series.dataoffset is not None:
        # ImageJ describes all planes of a large stack in the first page.
        return [_Plane(file, pages[0], series.dataoffset, number) for number in range(count)]
    if len(pages) != count or any(page is None or page.parent is not file for page in pages):
        raise ValueError("planes are missing")
    return pages


class _Plane:
    """A plane of a stack that has a page for the first one alone."""

    def __init__(self, file: tifffile.TiffFile, page: Any, offset: int, number: int) -> None:
        self.keyframe = page.keyframe
        self.axes = "YX"
        self._size = self.keyframe.imagelength * self.keyframe.imagewidth
        self._dtype = np.dtype(file.byteorder + self.keyframe.dtype.char)
        self._handle = file.filehandle
        nbytes = self._size * self._dtype.itemsize
        self.dataoffsets = (offset + number * nbytes,)
        self.databytecounts = (nbytes,)

    def asarray(self) -> npt.NDArray[Any]:
        self._handle.seek(self.dataoffsets[0])
        values = np.frombuffer(self._handle.read(self.databytecounts[0]), self._dtype, self._size)
        return values.astype(self._dtype.newbyteorder("=")).reshape(self.keyframe.imagelength, -1)


def _names(file: tifffile.TiffFile, number: int) -> tuple[str, ...]:
    """Names of the channels of a series."""
    try:
        if file.is_ome:
            images = [node for node in ElementTree.fromstring(file.ome_metadata or "") if node.tag.endswith("}Image")]
            channels = [node for node in images[number].iter() if node.tag.endswith("}Channel")]
            return tuple(node.get("Name") or node.get("Fluor") or "" for node in channels)
        if file.is_imagej:
            labels = (file.imagej_metadata or {}).get("Labels") or ()
            labels = [labels] if isinstance(labels, str) else labels
            return tuple(_LABEL.sub("", str(label)).strip() for label in labels)
        if file.is_shaped:
            named = ((file.shaped_metadata or ())[number].get("Channel") or {}).get("Name") or ()
            return (named,) if isinstance(named, str) else tuple(str(name) for name in named)
    except Exception:  # as above
        log.debug("names of the channels of %s", file.filename, exc_info=True)
    return ()


def _check_complete(page: Any, length: int) -> None:
    """Refuse a file cut short: the missing pixels would be taken for 0.

    Raises:
        ValueError: Some of the page's data lie beyond the end of the file.
    """
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count and offset + count > length:
            raise ValueError("the file is cut short")


def _samples(page: Any) -> npt.NDArray[Any]:
    """Decode a page to ``(H, W, C)`` without alpha."""
    array = np.asarray(page.asarray())
    axes = page.axes
    if axes.startswith("S"):  # planar: one channel after the other
        array = np.moveaxis(array, 0, -1)
        axes = axes[1:] + "S"
    if not axes.endswith("S"):
        array = array[..., None]
    while array.ndim > 3:  # of a volume within a page, the first plane is read
        array = array[0]
    count = array.shape[2] - alphas(page.keyframe)
    if not 1 <= count <= _CHANNELS_AT_MOST:
        raise ValueError(f"it has {array.shape[2]} channels")
    return array[:, :, :count]


def _coloured(indices: npt.NDArray[Any], palette: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colours ``(H, W, 3)`` of palette indices: of 8 bits, as palettes of 8-bit images are."""
    if indices.dtype.itemsize == 1 and int(palette.max()) > 255:
        palette = palette // 256
    small = palette.astype(np.uint8) if indices.dtype.itemsize == 1 else palette
    return np.ascontiguousarray(small.T[indices])


def one_line(error: BaseException) -> str:
    """What an error says, on one line that is not too long."""
    return " ".join(str(error).split())[:160] or type(error).__name__
