"""Image files of every kind against numbers worked out by hand."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data import intensity as intensity_module
from kemr_lightning.data.image import (
    decode_mask,
    image_size,
    read_image,
    read_image_bytes,
    shows_everywhere,
    to_intensity,
)
from kemr_lightning.data.intensity import WINDOW


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (17, 23), dtype=np.uint8)


def test_grey_replicated_to_colour_gives_exactly_the_grey_values() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(to_intensity(np.stack([levels] * 3, axis=2)).pixels, levels)


def test_colour_is_luma() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 200, 30]]], dtype=np.uint8)
    # 0.299 R + 0.587 G + 0.114 B, rounded.
    assert to_intensity(pixels).pixels.tolist() == [[76, 150, 29, 124]]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_lossless_8_bit_files_keep_their_values(tmp_path: Path, grey: np.ndarray, suffix: str, colour: bool) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(np.stack([grey] * 3, axis=2) if colour else grey).save(path)
    image = read_image(path)
    assert np.array_equal(image.pixels, grey)
    assert image.window is None
    assert image.pages == 1


def test_jpeg_is_close(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").pixels.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_are_read(tmp_path: Path, grey: np.ndarray, mode: str) -> None:
    image = Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8))
    suffix = ".tif" if mode == "CMYK" else ".png"
    image.convert("RGB" if mode == "CMYK" else "L").convert(mode).save(tmp_path / f"a{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a{suffix}").pixels, np.where(grey > 127, 255, 0))


def sixteen_bit() -> np.ndarray:
    return np.random.default_rng(5).integers(400, 5000, (40, 50)).astype(np.uint16)


def expected_window(deep: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    low, high = np.percentile(deep, WINDOW)
    return np.rint(((deep - low) / (high - low) * 255).clip(0, 255)).astype(np.uint8), (low, high)


@pytest.mark.parametrize("kind", ["png", "tif", "tif-pillow", "tif-deflate"])
def test_16_bit_is_scaled_by_its_own_window(tmp_path: Path, kind: str) -> None:
    deep = sixteen_bit()
    path = tmp_path / f"deep.{kind[:3]}"
    if kind == "png":
        Image.fromarray(deep).save(path)
    elif kind == "tif":
        tifffile.imwrite(path, deep)
    elif kind == "tif-pillow":
        Image.fromarray(deep).save(path, compression="tiff_lzw")
    else:
        tifffile.imwrite(path, deep, compression="zlib")
    image = read_image(path)
    pixels, window = expected_window(deep)
    assert np.array_equal(image.pixels, pixels)
    assert image.window == pytest.approx(window)


@pytest.mark.parametrize("kind", ["png", "tif", "planar"])
def test_16_bit_colour_keeps_its_depth(tmp_path: Path, kind: str) -> None:
    deep = sixteen_bit()
    colour = np.stack([deep] * 3, axis=2)
    path = tmp_path / f"deep.{'png' if kind == 'png' else 'tif'}"
    if kind == "png":
        cv2.imwrite(str(path), colour)
    elif kind == "tif":
        tifffile.imwrite(path, colour, photometric="rgb")
    else:
        tifffile.imwrite(path, np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.abs(read_image(path).pixels.astype(int) - expected_window(deep)[0]).max() <= 1


def test_16_bit_colour_png_has_its_channels_in_order(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), dtype=np.uint16)
    red[0, :, 0], red[1, :, 1], red[2, :, 2] = 60000, 60000, 60000
    cv2.imwrite(str(tmp_path / "a.png"), red[:, :, ::-1])
    rows = read_image(tmp_path / "a.png").pixels[:, 0].tolist()
    assert rows[3] < rows[2] < rows[0] < rows[1]


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    deep = sixteen_bit()
    tifffile.imwrite(tmp_path / "a.tif", 65535 - deep, photometric="miniswhite")
    assert np.abs(read_image(tmp_path / "a.tif").pixels.astype(int) - expected_window(deep)[0]).max() <= 1


def test_flat_deep_images_are_black() -> None:
    assert to_intensity(np.full((5, 6), 700, dtype=np.uint16)).pixels.max() == 0


def test_sparse_deep_images_keep_their_contrast() -> None:
    deep = np.zeros((100, 100), dtype=np.uint16)
    deep[0, :5] = 4000  # less than a thousandth of the image
    assert to_intensity(deep).pixels[0, :5].tolist() == [255] * 5


def test_floats_and_bools() -> None:
    assert to_intensity(np.array([[False, True]])).pixels.tolist() == [[0, 255]]
    ramp = np.linspace(0, 1, 5000).reshape(50, 100)
    assert to_intensity(ramp).pixels.min() == 0
    assert to_intensity(ramp).pixels.max() == 255
    ramp[0, 0] = np.nan
    assert to_intensity(ramp).pixels.max() == 255


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_pages(tmp_path: Path, kind: str) -> None:
    stack = np.random.default_rng(1).integers(0, 256, (3, 12, 14)).astype(kind)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    pages = [read_image(tmp_path / "stack.tif", page) for page in range(3)]
    assert [page.pages for page in pages] == [3, 3, 3]
    for page, stored in zip(pages, stack, strict=True):
        assert np.array_equal(page.pixels, stored if kind == "uint8" else to_intensity(stored).pixels)
    assert np.array_equal(read_image(tmp_path / "stack.tif").pixels, pages[0].pixels)
    with pytest.raises(UserError, match="no page 3"):
        read_image(tmp_path / "stack.tif", page=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "deep.tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    quarters = np.kron(np.array([[0, 85, 255], [170, 40, 120]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    if suffix == "deep.tif":
        deep = quarters.astype(np.uint16) * 257
        tifffile.imwrite(path, deep, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
    else:
        Image.fromarray(quarters).save(path, exif=exif, quality=100)
    # The EXIF standard: where row 0 and column 0 of the stored image lie in the upright one.
    upright = {
        1: quarters,
        2: np.fliplr(quarters),
        3: np.rot90(quarters, 2),
        4: np.flipud(quarters),
        5: quarters.T,
        6: np.rot90(quarters, -1),
        7: np.rot90(quarters, 2).T,
        8: np.rot90(quarters, 1),
    }[orientation]
    image = read_image(path)
    assert image.orientation == orientation
    assert np.abs(image.pixels.astype(int) - upright).max() <= 3
    assert image_size(path) == upright.shape
    assert np.abs(read_image(path, orient=False).pixels.astype(int) - quarters).max() <= 3


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"II*\0garbage garbage"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_file_cut_short_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"short{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match="short"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"nowhere\.png"):
        image_size(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 2, 2)), np.zeros((3, 8, 8, 8)), np.zeros((4, 4, 7)), np.zeros((0, 5))]
)
def test_odd_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UserError, match="shape"):
        to_intensity(array)


def test_text_arrays_are_refused() -> None:
    with pytest.raises(UserError, match="type"):
        to_intensity(np.array([["a", "b"]]))


def test_bytes_and_file_give_the_same(tmp_path: Path, grey: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    assert np.array_equal(read_image_bytes(buffer.getvalue()).pixels, grey)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_masks_are_what_is_not_zero(mode: str) -> None:
    mask = np.random.default_rng(2).random((9, 7)) > 0.5
    stored = Image.fromarray(mask.astype(np.uint8) * (255 if mode in ("1", "RGB") else 1))
    image = stored.convert(mode) if mode != "P" else Image.fromarray(mask.astype(np.uint8), "L")
    if mode == "P":
        image.putpalette([0, 0, 0, 0, 0, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert np.array_equal(decode_mask(buffer.getvalue()), mask)


def test_deep_colour_is_luma_before_it_is_scaled() -> None:
    colour = np.random.default_rng(6).integers(0, 4000, (40, 50, 3)).astype(np.uint16)
    grey = colour @ np.array([0.299, 0.587, 0.114])
    pixels, window = expected_window(grey)
    image = to_intensity(colour)
    assert image.window == pytest.approx(window)
    assert np.abs(image.pixels.astype(int) - pixels).max() <= 1


def test_large_images_are_converted_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = sixteen_bit()
    colour = np.random.default_rng(6).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    at_once = [to_intensity(array).pixels for array in (deep, colour, colour.astype(np.uint16))]
    monkeypatch.setattr(intensity_module, "_STRIP", 50 * 7)  # seven rows at a time
    for array, expected in zip((deep, colour, colour.astype(np.uint16)), at_once, strict=True):
        assert np.array_equal(to_intensity(array).pixels, expected)


@pytest.mark.parametrize(
    ("name", "mode", "shown"),
    [
        ("a.png", "L", True),
        ("a.png", "RGB", True),
        ("a.png", "RGBA", True),
        ("a.png", "1", True),
        ("a.png", "P", True),
        ("a.jpg", "L", True),
        ("a.tif", "L", True),
        ("a.png", "I;16", False),
        ("a.tif", "I;16", False),
        ("a.tif", "P", False),
        ("a.bmp", "P", False),
        ("a.jpg", "CMYK", False),
        ("a.tif", "F", False),
    ],
)
def test_files_that_viewers_agree_on(tmp_path: Path, grey: np.ndarray, name: str, mode: str, shown: bool) -> None:
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    if mode == "P":
        image.putpalette([level * 7 % 256 for level in range(768)])  # a grey one would be read as no palette at all
    image.save(tmp_path / name)
    assert shows_everywhere(tmp_path / name) == shown


def test_rotated_tiffs_and_broken_files_are_not_shown_everywhere(tmp_path: Path, grey: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "turned.tif", exif=exif)
    Image.fromarray(grey).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert not shows_everywhere(tmp_path / "turned.tif")
    assert shows_everywhere(tmp_path / "turned.jpg")
    assert not shows_everywhere(tmp_path / "broken.png")
    assert not shows_everywhere(tmp_path / "missing.png")
