"""Channels, colours and missing values on their way to one 8-bit channel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.image import read_image_bytes
from kemr_lightning.data.intensity import RawImage, to_intensity, valid_pixels
from tests.data.helpers import expected_intensity


def grey(seed: int = 0) -> np.ndarray:
    """A smooth image, as stained cells are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16), dtype=np.uint8))
    return np.asarray(coarse.resize((160, 120), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("empty", [0, 9])
def test_grey_stored_in_one_colour_is_that_colour(kind: str, position: int, empty: int) -> None:
    colours = np.full((120, 160, 3), empty, dtype=kind)
    colours[:, :, position] = grey()
    image = to_intensity(colours)
    np.testing.assert_array_equal(image.pixels, to_intensity(grey().astype(kind)).pixels)
    assert image.channel == f"the {('red', 'green', 'blue')[position]} channel, as the others are empty"


@pytest.mark.parametrize("position", range(3))
def test_one_colour_survives_jpeg(position: int) -> None:
    colours = np.zeros((120, 160, 3), dtype=np.uint8)
    colours[:, :, position] = grey()
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "JPEG", quality=75)
    image = read_image_bytes(buffer.getvalue())
    assert image.channel is not None
    assert np.abs(image.pixels.astype(int) - grey()).mean() < 12


def test_other_colours_stay_luma() -> None:
    blue_with_spots = np.zeros((120, 160, 3), dtype=np.uint8)
    blue_with_spots[:, :, 2] = grey()
    blue_with_spots[50:53, 60:63, 0] = 255
    for colours in (blue_with_spots, np.stack([grey(), grey(1), grey(2)], axis=2), np.zeros((5, 6, 3), np.uint8)):
        image = to_intensity(colours)
        assert image.channel is None
        assert np.abs(image.pixels - expected_intensity(colours, colour=True)).max() <= 1


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf, -9999, -1e38, 3.4e38])
def test_pixels_without_a_value_do_not_count(kind: str, missing: float) -> None:
    if kind == "f2" and abs(missing) > 65504 and np.isfinite(missing):
        missing = np.nan
    values = (grey() * 4.0 + 500).astype(kind)
    image = values.copy()
    image[:9] = missing
    read = to_intensity(image)
    np.testing.assert_array_equal(read.pixels[9:], expected_intensity(values[9:]))
    assert not read.pixels[:9].any()
    colour = to_intensity(np.stack([image] * 3, axis=2))
    assert np.abs(colour.pixels.astype(int) - read.pixels).max() <= 1


def test_negative_values_are_values_among_others() -> None:
    values = np.linspace(-20000, 100, 400).reshape(20, 20)
    values[3, 3] = -9999
    assert valid_pixels(values) is None
    assert valid_pixels(np.array([[-32768, 5]], dtype=np.int16)) is not None
    with pytest.raises(UserError, match="no pixel of the image has a value"):
        to_intensity(np.full((4, 5), np.nan))


def test_the_usual_channel() -> None:
    empty, first, second = np.full_like(grey(), 3), grey(1), grey(2)
    channels = np.stack([empty, first, second], axis=2)
    for names, position in (((), 1), (("a", "b", "Hoechst 33342"), 2), (("DAPI", "b", "c"), 1)):
        image = RawImage(channels, names=names).intensity()
        np.testing.assert_array_equal(image.pixels, channels[:, :, position])
    for channel, position in ((1, 0), ("3", 2), ("B", 1)):
        image = RawImage(channels, names=("a", "b", "c")).intensity(channel)
        np.testing.assert_array_equal(image.pixels, channels[:, :, position])
    np.testing.assert_array_equal(RawImage(channels, colour=True).intensity("green").pixels, first)
    np.testing.assert_array_equal(RawImage(first).intensity("anything").pixels, first)
    with pytest.raises(UserError, match=r"there is no channel 4\. Choose one of: channel 1 of 3"):
        RawImage(channels).intensity(4)
