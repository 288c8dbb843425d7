"""TIFF files of every kind against the arrays that they were written from, and against OpenCV and Pillow."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.image import Reading, image_size, read_image, read_image_bytes, shows_everywhere
from kemr_lightning.data.tiff import UnreadableTiffError, alphas, count_images, decode, one_line, open_tiff
from tests.data.helpers import expected_intensity

SIZE = (20, 37)
KINDS = ["?", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]
COMPRESSIONS = [None, "lzw", "zlib", "packbits", "zstd"]
PHOTOMETRICS = ["minisblack", "miniswhite", "rgb"]


def pixels(kind: str, channels: int) -> np.ndarray:
    """Noise over a ramp; all channels have content."""
    rng = np.random.default_rng(channels)
    smooth = np.linspace(0, 1, SIZE[0] * SIZE[1] * channels).reshape(*SIZE, channels)
    values = 0.6 * smooth + 0.4 * rng.random((*SIZE, channels))
    if kind == "?":
        array = values > 0.5
    elif kind[0] == "f":
        array = values * 900 - 100
    else:
        info = np.iinfo(np.dtype(kind))
        array = values * (min(info.max, 90_000) - max(info.min, -20_000)) + max(info.min, -20_000)
    return array.astype(kind)


def intended(array: np.ndarray, photometric: str) -> np.ndarray:
    """The intensity of ``(H, W, C)`` pixels, worked out from the array alone."""
    if photometric == "miniswhite":
        if array.dtype.kind in "iu":
            array = np.iinfo(array.dtype).max + (np.iinfo(array.dtype).min - array.astype(np.int64))
            array = array.astype(np.uint8) if array.max() < 256 and array.min() >= 0 else array
        else:
            array = ~array if array.dtype.kind == "b" else -array.astype(np.float64)
    return expected_intensity(array, colour=array.shape[2] == 3 or photometric == "rgb")


def kinds_of_files() -> Iterator[tuple[Any, ...]]:
    for kind, channels, compression, predictor, order, tile, planar, photometric in itertools.product(
        KINDS, (1, 2, 3, 4, 5), COMPRESSIONS, (False, True), "<>", (None, (16, 16)), (False, True), PHOTOMETRICS
    ):
        if predictor and (compression in (None, "packbits") or kind == "?"):
            continue
        if (photometric == "rgb" and channels < 3) or (planar and channels == 1):
            continue
        if kind == "?" and (channels > 1 or photometric == "rgb"):
            continue
        yield kind, channels, compression, predictor, order, tile, planar, photometric


def written(choice: tuple[Any, ...], array: np.ndarray) -> bytes:
    _, channels, compression, predictor, order, tile, planar, photometric = choice
    stored = array[:, :, 0] if channels == 1 else np.moveaxis(array, 2, 0) if planar else array
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        stored,
        byteorder=order,
        compression=compression,
        predictor=predictor or None,
        tile=tile,
        planarconfig=None if channels == 1 else "separate" if planar else "contig",
        photometric=photometric,
        metadata=None,
    )
    return buffer.getvalue()


def compare(choices: list[tuple[Any, ...]]) -> None:
    arrays = {(kind, channels): pixels(kind, channels) for kind in KINDS for channels in range(1, 6)}
    wrong = []
    for choice in choices:
        array = arrays[choice[0], choice[1]]
        read = read_image_bytes(written(choice, array)).pixels
        if np.abs(read.astype(int) - intended(array, choice[-1])).max() > 1:  # 1: how a luma is rounded
            wrong.append(choice)
    assert not wrong


def test_some_of_the_kinds_of_files_are_read() -> None:
    compare(list(kinds_of_files())[::17])


@pytest.mark.full
def test_all_kinds_of_files_are_read() -> None:
    compare(list(kinds_of_files()))
