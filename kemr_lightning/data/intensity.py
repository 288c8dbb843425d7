"""From decoded pixels to one 8-bit intensity channel.

Colour is converted to luma (ITU-R BT.601), rounded so that equal channels give exactly their common value: a grey image
replicated to RGB is the same image. A grey image stored in one colour channel, as pseudo-coloured DAPI is, is that
channel. Of several channels without colours, one is chosen. Pixels of more than 8 bits are scaled to 0-255 by the
image's own percentile window (`WINDOW`), which is recorded. An alpha channel is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kemr_lightning.core.errors import UserError

WINDOW = (0.1, 99.9)
"""Percentiles of the intensities that become 0 and 255 in an image of more than 8 bits."""

COLOURS = ("red", "green", "blue")
"""Names of the channels of a colour image."""

FAINT_SPREAD, FAINT_RANGE = 0.2, 0.3
"""A colour channel is empty if the width of its percentile window and its range are at most these shares of those of
the strongest channel. JPEG compression leaves up to 0.17 and 0.25 in channels that were empty."""

SENTINELS = (-9999.0, -99999.0, -32768.0, -2147483648.0)
"""Numbers that stand for missing pixels in images whose other pixels are not negative."""

ENORMOUS = 1e30
"""No intensity is as large: such numbers stand for missing pixels."""

_STAINS = re.compile(r"dapi|hoechst|\bdna\b|chromosom", re.IGNORECASE)
"""Finds the channel that shows all chromosomes by its name."""

_STRIP = 2_000_000
"""Number of pixels converted at a time."""

Channel = str | int | None
"""The name of a channel or its number from 1; None: it is chosen by the rule of `to_intensity` and `RawImage`."""


@dataclass(frozen=True)
class IntensityImage:
    """One decoded image.

    Attributes:
        pixels: ``(H, W)`` uint8 intensity.
        window: The raw intensities ``(low, high)`` that became 0 and 255, or None if the values are the file's own.
        pages: Number of images in the file.
        orientation: The file's EXIF orientation (1-8). It has been applied unless the reader was told not to.
        channel: Which of the file's channels this is, for people; None for grey images and for luma.
    """

    pixels: npt.NDArray[np.uint8]
    window: tuple[float, float] | None = None
    pages: int = 1
    orientation: int = 1
    channel: str | None = None


@dataclass(frozen=True)
class RawImage:
    """Pixels as a file holds them.

    Attributes:
        pixels: ``(H, W)``, or ``(H, W, C)`` without alpha, of any number type.
        colour: Whether the first three channels are red, green and blue.
        names: Names of the C channels; empty if the file does not name them.
        valid: ``(H, W)`` bool, where there is a measured value; None: everywhere that pixels are finite.
    """

    pixels: npt.NDArray[Any]
    colour: bool = False
    names: tuple[str, ...] = ()
    valid: npt.NDArray[np.bool_] | None = None

    def intensity(self, channel: Channel = None) -> IntensityImage:
        """The intensity of one channel, or of all.

        Args:
            channel: See `Channel`; images of one channel have no choice. By default colour becomes luma, unless only
                one of the three is not empty. Of channels without colours, the one named after a stain of all
                chromosomes (DAPI, Hoechst, DNA) is taken, or else the first that is not constant.

        Raises:
            UserError: There is no such channel, or no pixel is valid.
        """
        pixels = self.pixels.astype(np.uint8) * np.uint8(255) if self.pixels.dtype == np.bool_ else self.pixels
        if self.valid is not None and not self.valid.any():
            raise UserError("no pixel of the image has a value. Export it again.")
        if pixels.ndim == 2 or pixels.shape[2] == 1:
            return _scaled(pixels.reshape(pixels.shape[:2]), self.valid)
        count = pixels.shape[2]
        names = self.names or (COLOURS if self.colour else ())
        if channel is not None:
            position = _position(channel, names, count)
            chosen = _title(position, names, count)
        elif self.colour:
            single = _single_colour(pixels[:, :, :3], self.valid)
            if single is None:
                return _scaled_colour(pixels[:, :, :3], self.valid)
            position, chosen = single, f"the {COLOURS[single]} channel, as the others are empty"
        else:
            position = _usual(pixels, names, self.valid)
            chosen = _title(position, names, count)
        image = _scaled(np.ascontiguousarray(pixels[:, :, position]), self.valid)
        return IntensityImage(image.pixels, image.window, channel=chosen)


def to_intensity(array: npt.NDArray[Any]) -> IntensityImage:
    """Convert an array of pixels to one 8-bit intensity channel.

    Args:
        array: ``(H, W)`` or ``(H, W, C)`` with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Bool becomes 0 and
            255, uint8 keeps its values, and any other integer or float type is scaled by its own percentile window.
            Colour becomes luma, or the only channel that is not empty.

    Returns:
        The intensity, with the window if there was one. Pixels without a value (not finite, or a number that stands for
        a missing value) become 0 and do not count for the window.

    Raises:
        UserError: The array has another shape or type, or no pixels with a value.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or array.size == 0:
        raise UserError(f"an image cannot have shape {array.shape}. Give (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype.kind not in "buif":
        raise UserError(f"an image cannot be of type {array.dtype}. Give uint8, uint16 or float pixels.")
    if array.ndim == 3 and array.shape[2] in (2, 4):
        array = array[:, :, :-1]
    return RawImage(array, colour=array.ndim == 3 and array.shape[2] == 3, valid=valid_pixels(array)).intensity()


def valid_pixels(array: npt.NDArray[Any], missing: float | None = None) -> npt.NDArray[np.bool_] | None:
    """Where an image has values.

    Args:
        array: ``(H, W)`` or ``(H, W, C)`` numbers.
        missing: The number that the file says stands for a missing value, if any.

    Returns:
        ``(H, W)`` bool, False where a channel is not finite, enormous, or holds a number that stands for a missing
        value; None if there are values everywhere.
    """
    kind = array.dtype.kind
    wrong: npt.NDArray[np.bool_] | None = None
    if kind == "f":
        wrong = ~np.isfinite(array)
        if array.dtype.itemsize > 2:  # half precision cannot hold such numbers
            with np.errstate(invalid="ignore"):
                wrong |= np.abs(array) >= ENORMOUS
    if missing is not None and np.isfinite(missing):
        with np.errstate(over="ignore"):
            stated = array == (array.dtype.type(missing) if kind == "f" else missing)
        wrong = stated if wrong is None else wrong | stated
    if kind in "if" and array.size:
        with np.errstate(over="ignore"):
            # Half precision rounds -9999 to -10000.
            known = np.isin(array, np.array(SENTINELS).astype(array.dtype if kind == "f" else np.float64))
        if known.any():
            known &= np.isfinite(array)
            rest = array[~known] if wrong is None else array[~(known | wrong)]
            if rest.size and rest.min() >= 0:
                wrong = known if wrong is None else wrong | known
    if wrong is None or not wrong.any():
        return None
    there: npt.NDArray[np.bool_] = np.logical_not(wrong.any(axis=2) if wrong.ndim == 3 else wrong)
    return there


def _position(channel: str | int, names: Sequence[str], count: int) -> int:
    """Position of the channel of a name or number; a number may be given as text."""
    wanted = str(channel).strip().casefold()
    named = [position for position, name in enumerate(names) if name.strip().casefold() == wanted]
    if len(named) == 1:
        return named[0]
    if wanted.isdecimal() and 1 <= int(wanted) <= count:
        return int(wanted) - 1
    there = ", ".join(_title(position, names, count) for position in range(count))
    raise UserError(f"there is no channel {channel!r}. Choose one of: {there}.")


def _title(position: int, names: Sequence[str], count: int) -> str:
    name = names[position] if position < len(names) else ""
    return f"channel {position + 1} of {count}" + (f" ({name})" if name else "")


def _usual(pixels: npt.NDArray[Any], names: Sequence[str], valid: npt.NDArray[np.bool_] | None) -> int:
    """Position of the channel of ``(H, W, C)`` that is taken if none is named."""
    channels = [_values(pixels[:, :, position], valid) for position in range(pixels.shape[2])]
    filled = [position for position, values in enumerate(channels) if values.max() > values.min()]
    stained = [position for position in filled if position < len(names) and _STAINS.search(names[position])]
    return (stained or filled or [0])[0]


def _single_colour(colours: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> int | None:
    """Position of the only channel of ``(H, W, 3)`` that is not empty, or None."""
    flat = [_values(colours[:, :, position], valid) for position in range(3)]
    ranges = np.array([float(channel.max()) - float(channel.min()) for channel in flat])
    strongest = int(ranges.argmax())
    others = [position for position in range(3) if position != strongest]
    if ranges[strongest] == 0 or (ranges[others] > FAINT_RANGE * ranges[strongest]).any():
        return None
    if (ranges[others] == 0).all():
        return strongest
    spreads = np.array([float(np.ptp(np.percentile(channel, WINDOW))) for channel in flat])
    return strongest if (spreads[others] <= FAINT_SPREAD * spreads[strongest]).all() else None


def _scaled_colour(colours: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> IntensityImage:
    """The luma of ``(H, W, 3)`` pixels."""
    if colours.dtype == np.uint8:
        return IntensityImage(_luma8(colours))
    return _scaled(_luma(colours), valid)


def _scaled(grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> IntensityImage:
    """Eight bits of ``(H, W)`` pixels: their own, or their percentile window."""
    if grey.dtype == np.uint8:
        return IntensityImage(np.ascontiguousarray(grey))
    if grey.dtype.kind == "f":
        grey = grey.astype(np.float64)
    values = _values(grey, valid)
    low, high = (float(value) for value in np.percentile(values, WINDOW))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    pixels = np.zeros(grey.shape, dtype=np.uint8)
    for rows in _strips(grey) if high > low else ():
        strip = grey[rows].astype(np.float64)
        if valid is not None:
            strip = np.where(valid[rows], strip, low)
        scaled = (strip - low) * (255.0 / (high - low))
        pixels[rows] = np.rint(scaled.clip(0, 255))
    return IntensityImage(pixels, (low, high))


def _values(channel: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    """The pixels of a channel that have a value."""
    return channel if valid is None else channel[valid]


def _strips(array: npt.NDArray[Any]) -> Iterator[slice]:
    """Slices of rows to convert one after the other: a wider copy of a whole large scan may not fit into memory."""
    step = max(1, _STRIP // max(1, array.shape[1]))
    return (slice(start, start + step) for start in range(0, array.shape[0], step))


def _luma(channels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """BT.601 luma of ``(H, W, 3)`` pixels of any type."""
    grey = np.empty(channels.shape[:2], dtype=np.float64)
    with np.errstate(all="ignore"):  # pixels that are not finite are masked out afterwards
        for rows in _strips(channels):
            grey[rows] = channels[rows].astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey


def _luma8(channels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """BT.601 luma in whole thousandths; they sum to 1000, so equal channels give exactly their common value."""
    luma = np.empty(channels.shape[:2], dtype=np.uint8)
    for rows in _strips(channels):
        red, green, blue = (channels[rows, :, index].astype(np.uint32) for index in range(3))
        luma[rows] = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return luma
