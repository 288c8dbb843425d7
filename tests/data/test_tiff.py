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

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.image import Reading, image_size, read_image, read_image_bytes, shows_everywhere
from kemr_lightning.data.tiff import count_images
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


def test_what_opencv_writes(tmp_path: Path) -> None:
    """OpenCV compresses with LZW; it wrote the file and reads it, so it is independent of what is tested."""
    for kind, channels in itertools.product(("u1", "u2", "f4"), (1, 3, 4)):
        array = np.ascontiguousarray(pixels(kind, channels)[:, :, :: -1 if channels == 3 else 1])
        path = tmp_path / f"{kind}{channels}.tif"
        assert cv2.imwrite(str(path), array)
        back = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(array.shape)
        expected = expected_intensity(back[:, :, [2, 1, 0]] if channels > 2 else back, colour=channels > 2)
        assert np.abs(read_image(path).pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("reduced", ["after", "before", "subifd"])
def test_reduced_copies_are_no_images(tmp_path: Path, reduced: str) -> None:
    path, full = tmp_path / "a.tif", pixels("u2", 1)[:, :, 0]
    small = np.ascontiguousarray((full[::2, ::2] // 256).astype(np.uint8))
    with tifffile.TiffWriter(path) as file:
        if reduced == "before":
            file.write(small, subfiletype=1, photometric="minisblack", metadata=None)
        file.write(full, photometric="minisblack", metadata=None, subifds=1 if reduced == "subifd" else None)
        if reduced != "before":
            file.write(small, subfiletype=1, photometric="minisblack", metadata=None)
    assert count_images(path) == 1
    assert image_size(path) == SIZE
    assert not shows_everywhere(path)
    image = read_image(path)
    assert image.pages == 1
    np.testing.assert_array_equal(image.pixels, expected_intensity(full))


def stack() -> np.ndarray:
    """Two planes of an empty channel and two others."""
    array = np.random.default_rng(1).integers(0, 255, (2, 3, *SIZE)).astype(np.uint8)
    array[:, 0] = 7
    return array


@pytest.mark.parametrize("kind", ["ome", "imagej", "shaped"])
def test_channels_of_a_stack(tmp_path: Path, kind: str) -> None:
    path, array = tmp_path / "a.tif", stack()
    if kind == "imagej":
        labels = [name for _ in range(2) for name in ("empty", "FITC", "DAPI")]
        tifffile.imwrite(path, array, imagej=True, metadata={"axes": "ZCYX", "Labels": labels})
    else:
        names = {"Name": ["empty", "FITC", "DAPI"]}
        metadata = {"axes": "ZCYX", "Channel": names}
        tifffile.imwrite(path, array, ome=kind == "ome", photometric="minisblack", metadata=metadata)
    assert count_images(path) == 2
    assert not shows_everywhere(path)
    for plane in range(2):
        usual = read_image(path, plane)
        assert (usual.pages, usual.channel) == (2, "channel 3 of 3 (DAPI)")
        np.testing.assert_array_equal(usual.pixels, array[plane, 2])
        for channel in (2, "2", "fitc"):
            chosen = read_image(path, plane, reading=Reading(channel))
            np.testing.assert_array_equal(chosen.pixels, array[plane, 1])
    with pytest.raises(UserError, match=r"a\.tif: there is no channel 'Cy3'.*channel 2 of 3 \(FITC\)"):
        read_image(path, reading=Reading("Cy3"))


def test_a_stack_without_channels_stays_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack()[:, 1], imagej=True, metadata={"axes": "ZYX"})
    assert count_images(tmp_path / "a.tif") == 2
    assert read_image(tmp_path / "a.tif").channel is None


@pytest.mark.parametrize("missing", [0, 65535, 12])
def test_the_stated_missing_value_does_not_count(tmp_path: Path, missing: int) -> None:
    array = np.random.default_rng(1).integers(2000, 3000, SIZE).astype(np.uint16)
    whole = expected_intensity(array[3:])
    array[:3] = missing
    extra = [(42113, "s", 0, str(missing), True)]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", extratags=extra)
    read = read_image(tmp_path / "a.tif").pixels
    np.testing.assert_array_equal(read[3:], whole)
    assert not read[:3].any()


def test_a_deep_file_cut_short_is_refused(tmp_path: Path) -> None:
    for compression in (None, "lzw"):
        tifffile.imwrite(tmp_path / "a.tif", pixels("u2", 3), compression=compression, photometric="rgb")
        (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-200])
        with pytest.raises(UserError, match=r"a\.tif cannot be decoded \(the file is cut short\)"):
            read_image(tmp_path / "a.tif")


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((300, 400), np.uint8), compression="zlib")
    with pytest.raises(UserError, match="400x300 pixels are more than max_pixels=1000"):
        read_image(tmp_path / "a.tif", reading=Reading(max_pixels=1000))
