"""Microscope and camera of a clinical image: transmitted light or fluorescence, focus, light, noise and file."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.clutter import Float32, half_cloud, softened
from kemr_lightning.data.synthetic.strokes import jitted

_NOTHING: Float32 = np.zeros((1, 1), np.float32)
"""Stands for a field that is not used."""


@dataclass(frozen=True)
class Camera:
    """Microscope, camera and file of one image.

    Attributes:
        absorbs: True for transmitted light (dark chromosomes), False for fluorescence (bright ones).
        background: Grey level of the empty slide; above 255 in overexposed images.
        gain: Optical density (decadic) of stain 1 in transmitted light, grey levels of stain 1 in fluorescence.
        blur: Standard deviation of the point spread function, pixels.
        sharpening: Strength of the camera's unsharp mask or of the halo of a phase effect; 0 for none.
        sharpening_radius: Its standard deviation, pixels.
        halo: Fraction of the light that is spread around chromosomes by what is out of focus.
        halo_radius: Standard deviation of that spread, pixels.
        shading: Relative amplitude of uneven light.
        mottle: Amplitude of the uneven ground, as optical density or as a fraction of stain 1.
        mottle_scale: Its extent, pixels.
        grain: Granularity of the stain, as a fraction of it.
        read_noise: Standard deviation of the noise that does not depend on the light, grey levels.
        shot_noise: Variance of the noise that does, per grey level.
        gamma: Exponent of the camera's curve.
        quality: Quality of the JPEG file, 1 to 100; None for a lossless one.
        inverted: Whether the image was saved with dark and bright exchanged.
    """

    absorbs: bool
    background: float
    gain: float
    blur: float
    sharpening: float
    sharpening_radius: float
    halo: float
    halo_radius: float
    shading: float
    mottle: float
    mottle_scale: float
    grain: float
    read_noise: float
    shot_noise: float
    gamma: float
    quality: int | None
    inverted: bool

    def expose(self, stain: Float32, width: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Take the image of a stained slide.

        Args:
            stain: ``(H, W)`` float32, sum of all stain; changed.
            width: Typical width of a chromosome, pixels.
            rng: Source of grain, light and noise.

        Returns:
            ``(H, W)`` uint8.
        """
        size = (stain.shape[0], stain.shape[1])
        grain = half_cloud(size, 0.2 * width, rng) if self.grain > 0 else _NOTHING
        mottle = half_cloud(size, self.mottle_scale, rng) if self.mottle > 0 else _NOTHING
        light = half_cloud(size, 0.8 * max(size), rng) if self.shading > 0 else _NOTHING
        _illuminate(
            stain, grain, np.float32(self.grain), mottle, np.float32(self.mottle), light, np.float32(self.shading),
            np.float32(self.gain), np.float32(self.background), self.absorbs,
        )  # fmt: skip
        image = stain
        if self.halo > 0:
            image = self._with_halo(image)
        image = softened(image, self.blur)
        soft = softened(image, self.sharpening_radius) if self.sharpening > 0 else _NOTHING
        # The noise of neighbouring pixels is slightly correlated in cameras and their files.
        noise = softened(rng.standard_normal(size, dtype=np.float32), 0.45)
        exact = np.float32(self.read_noise**2), np.float32(self.shot_noise)
        curve = (255 * np.linspace(0, 1, 1025) ** self.gamma).astype(np.float32)
        grey = np.empty(size, np.uint8)
        _record(image, soft, np.float32(self.sharpening), curve, noise, *exact, self.inverted, grey)
        return self._filed(grey)

    def _with_halo(self, image: Float32) -> Float32:
        """Spread part of the light; a coarse copy of the image is enough for that."""
        step = max(self.halo_radius / 2, 1.0)
        height, width = image.shape
        coarse_size = (max(round(width / step), 1), max(round(height / step), 1))
        coarse = cv2.resize(image, coarse_size, interpolation=cv2.INTER_AREA)
        spread = cv2.resize(softened(np.asarray(coarse, np.float32), self.halo_radius / step), (width, height))
        return np.asarray(cv2.addWeighted(image, 1 - self.halo, spread, self.halo, 0), dtype=np.float32)

    def _filed(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What compression leaves of an image."""
        if self.quality is None:
            return image
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


@jitted
def _illuminate(
    stain: Float32,
    grain: Float32,
    grain_share: np.float32,
    mottle: Float32,
    mottle_share: np.float32,
    light: Float32,
    shading: np.float32,
    gain: np.float32,
    background: np.float32,
    absorbs: bool,
) -> None:
    """Turn stain into light in place; fields, see `half_cloud`, of one pixel stand for none."""
    rows, columns = stain.shape
    granular, mottled, shaded = grain.size > 1, mottle.size > 1, light.size > 1
    decades = np.float32(-np.log(10)) * gain
    for i in range(rows):
        for j in range(columns):
            value = stain[i, j]
            if granular:
                value *= np.float32(1) + grain_share * grain[i // 2, j // 2]
            if mottled:
                value += mottle_share * mottle[i // 2, j // 2]
            lit = np.float32(1) + shading * light[i // 2, j // 2] if shaded else np.float32(1)
            # Beer and Lambert: the optical densities of what lies on top of each other add.
            stain[i, j] = lit * background * np.exp(decades * value) if absorbs else lit * (gain * value + background)


@jitted
def _record(
    image: Float32,
    soft: Float32,
    sharpening: np.float32,
    curve: Float32,
    noise: Float32,
    read_variance: np.float32,
    shot_noise: np.float32,
    inverted: bool,
    grey: NDArray[np.uint8],
) -> None:
    """Sharpen, apply the camera's curve, add noise and round."""
    rows, columns = image.shape
    sharp = soft.size > 1
    last = len(curve) - 1
    for i in range(rows):
        for j in range(columns):
            value = image[i, j]
            if sharp:
                value += sharpening * (value - soft[i, j])
            if 0 < value < 255:
                position = value * np.float32(last / 255)
                index = min(int(position), last - 1)
                value = curve[index] + (position - np.float32(index)) * (curve[index + 1] - curve[index])
            value += np.float32(1.5) * noise[i, j] * np.sqrt(read_variance + shot_noise * max(value, np.float32(0)))
            level = int(min(max(value + np.float32(0.5), np.float32(0)), np.float32(255)))
            grey[i, j] = 255 - level if inverted else level
