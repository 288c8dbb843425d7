"""From outlines to grey levels: band patterns, optical density or emitted light, blur, background and camera.

In transmitted light (G-bands), the optical densities of overlapping chromosomes add, so their transmittances multiply.
In fluorescence (Q-bands, DAPI), the emitted light adds. So both sum the stain over the chromosomes (`stack`) and differ
in how that sum is exposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.karyotype import Ideogram
from kemr_lightning.data.synthetic.shape import Footprint

FloatArray = NDArray[np.floating[Any]]

_GIEMSA = {"n": 0.26, "a": 0.44, "b": 0.64, "c": 0.84, "d": 1.0, "e": 0.78, "v": 0.60, "s": 0.20}
"""Optical density of each band in G-bands, relative to the darkest."""

_FLUORESCENT = {"n": 0.50, "a": 0.62, "b": 0.75, "c": 0.88, "d": 1.0, "e": 0.62, "v": 0.95, "s": 0.28}
"""Light of each band in fluorescence, relative to the brightest."""

_PROFILE = 512
"""Number of samples along a band profile."""


@dataclass(frozen=True)
class Texture:
    """The stain inside one chromosome.

    Attributes:
        profile: ``(512,)`` float64, stain along the chromosome from the end of the short arm, dimensionless.
        slant: Shift of the bands from one side to the other, pixels.
        bow: Shift of the bands from the axis to the sides, pixels.
        shift: Shift of one sister chromatid's bands against the other's, pixels.
        groove: Depth of the dip between the sister chromatids, as a fraction of the stain.
        taper: Decrease towards the sides, where the round chromosome is thinner, as a fraction of the stain.
    """

    profile: FloatArray
    slant: float = 0.0
    bow: float = 0.0
    shift: float = 0.0
    groove: float = 0.0
    taper: float = 0.0

    def paint(
        self,
        where: Footprint,
        length: float,
        half_width: float,
        density: float | None = None,
        ragged: FloatArray | float = 0.0,
    ) -> FloatArray:
        """Compute the stain in each pixel of a footprint.

        In fluorescence, a partly covered pixel emits in proportion to its coverage. In transmitted light it passes the
        mean of what its covered and its empty part pass, which is more than its mean density would let through; its
        stain is the one with this transmittance.

        Args:
            where: The footprint, ``(h, w)`` pixels.
            length: Length of the chromosome, pixels.
            half_width: Half the width of the chromosome, pixels.
            density: Optical density (decadic) of stain 1 in transmitted light; None in fluorescence.
            ragged: ``(h, w)`` shift of the bands along the chromosome, pixels.

        Returns:
            ``(h, w)`` float64.
        """
        across = where.t / half_width
        s = where.s + ragged + self.slant * across / 2 + self.bow * across**2 + self.shift * np.tanh(4 * across) / 2
        stain = np.interp(s / length, np.linspace(0, 1, len(self.profile)), self.profile)
        stain *= 1 - self.groove * np.exp(-((across / 0.3) ** 2)) - self.taper * np.minimum(across**2, 1)
        if density is None:
            return np.asarray(where.coverage * stain)
        passed = 1 - where.coverage + where.coverage * 10 ** (-density * stain)
        return np.asarray(-np.log10(passed) / density)


def texture(
    bands: Ideogram, look: str, contrast: float, groove: float, length: float, width: float, rng: np.random.Generator
) -> Texture:
    """Draw the stain of one chromosome.

    Args:
        bands: Its band map.
        look: ``"gband"`` or ``"fluorescence"``.
        contrast: Contrast of the bands: 1 for the full map, 0 for uniform stain.
        groove: Typical depth of the dip between the sister chromatids, as a fraction of the stain.
        length: Length of the chromosome, pixels.
        width: Width of the chromosome, pixels.
        rng: Source of randomness.
    """
    table = _GIEMSA if look == "gband" else _FLUORESCENT
    levels = np.array([table[stain] for stain in bands.stains])
    variable = np.array([stain in "vs" for stain in bands.stains])
    levels *= np.where(variable, rng.uniform(0.7, 1.25, len(levels)), rng.normal(1, 0.10, len(levels)))
    mean = float(np.average(levels, weights=np.diff(bands.edges)))
    levels = mean + contrast * (levels - mean)
    position = (np.arange(_PROFILE) + 0.5) / _PROFILE
    profile = levels[np.clip(np.searchsorted(bands.edges, position) - 1, 0, len(levels) - 1)]
    # Bands fade into each other over a fraction of the width, and condensation is uneven along the arms.
    blur = rng.uniform(0.04, 0.08) * width / length * _PROFILE
    profile = blurred(profile[None], blur)[0]
    uneven = blurred(rng.normal(0, 1, (1, _PROFILE)), max(0.35 * width / length * _PROFILE, 1))[0]
    profile = np.maximum(profile * (1 + 0.06 * uneven / max(float(uneven.std()), 1e-6)) * rng.normal(1, 0.08), 0.08)
    return Texture(
        profile,
        slant=rng.normal(0, 0.08) * width,
        bow=rng.normal(0, 0.05) * width,
        shift=rng.normal(0, 0.05) * width,
        groove=float(np.clip(rng.normal(groove, 0.07), 0, 0.6)),
        taper=rng.uniform(0.1, 0.3) if look == "gband" else rng.uniform(0.15, 0.4),
    )


def blurred(values: FloatArray, sigma: float) -> FloatArray:
    """Blur ``(H, W)`` values with a Gaussian of ``sigma`` pixels, continuing those at the border beyond it."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), dtype=np.float64)


def stack(layers: list[tuple[int, int, FloatArray]], image_size: tuple[int, int]) -> FloatArray:
    """Sum painted windows ``(x0, y0, values)`` on an image of ``(H, W)``."""
    total = np.zeros(image_size)
    for x0, y0, values in layers:
        height, width = values.shape
        total[y0 : y0 + height, x0 : x0 + width] += values
    return total


@dataclass(frozen=True)
class Optics:
    """Microscope and camera of one image.

    Attributes:
        look: ``"gband"`` or ``"fluorescence"``.
        background: Grey level of the empty slide.
        gain: In G-bands, optical density (decadic) of stain 1; in fluorescence, grey levels of stain 1.
        blur: Standard deviation of the point spread function, pixels.
        sharpening: Strength of the camera's unsharp mask, 0 for none.
        haze: Fraction of the light that is out of focus and spread widely; fluorescence only.
        shading: Amplitude of the uneven illumination, as a fraction of the light.
        read_noise: Standard deviation of the noise that is independent of the light, grey levels.
        shot_noise: Variance of the noise that grows with the light, per grey level.
        grain: Standard deviation of the stain's granularity, as a fraction of the stain.
    """

    look: str
    background: float
    gain: float
    blur: float
    sharpening: float = 0.0
    haze: float = 0.0
    shading: float = 0.0
    read_noise: float = 0.0
    shot_noise: float = 0.0
    grain: float = 0.0

    @classmethod
    def sample(cls, look: str, width: float, rng: np.random.Generator) -> Optics:
        """Draw a plausible microscope for chromosomes ``width`` pixels wide."""
        blur = max(rng.uniform(0.055, 0.105) * width, 0.55)
        if look == "gband":
            return cls(
                look,
                background=rng.uniform(208, 262),
                gain=rng.uniform(0.38, 0.68),
                blur=blur,
                sharpening=rng.uniform(0, 0.9) * (rng.random() < 0.6),
                shading=rng.uniform(0, 0.05),
                read_noise=0.3 * 10 ** rng.uniform(0, 1),
                shot_noise=rng.uniform(0, 0.02),
                grain=rng.uniform(0.02, 0.08),
            )
        dark = rng.random() < 0.5
        return cls(
            look,
            background=rng.uniform(-3, 2) if dark else rng.uniform(3, 40),
            gain=rng.uniform(80, 190),
            blur=blur * rng.uniform(1, 1.3),
            sharpening=rng.uniform(0, 0.5) * (rng.random() < 0.3),
            haze=rng.uniform(0.0, 0.08) if dark else rng.uniform(0.04, 0.2),
            shading=rng.uniform(0, 0.1),
            read_noise=0.2 * 10 ** rng.uniform(0, 1.1),
            shot_noise=rng.uniform(0, 0.1),
            grain=rng.uniform(0.04, 0.12),
        )


def field(image_size: tuple[int, int], scale: float, rng: np.random.Generator) -> FloatArray:
    """Draw a smooth random field.

    Args:
        image_size: ``(H, W)``.
        scale: Distance over which the field varies, pixels.
        rng: Source of randomness.

    Returns:
        ``(H, W)`` float64 with a mean around 0 and a standard deviation around 1.
    """
    height, width = image_size
    step = max(scale / 2, 1.0)
    rows, columns = int(np.ceil(height / step)) + 4, int(np.ceil(width / step)) + 4
    coarse = blurred(rng.normal(0, 1, (rows, columns)), 1.0)
    coarse = coarse / max(float(coarse.std()), 1e-6)
    grown = cv2.resize(coarse, (int(columns * step), int(rows * step)), interpolation=cv2.INTER_CUBIC)
    return np.asarray(grown[:height, :width], dtype=np.float64)


def expose(stain: FloatArray, optics: Optics, width: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the image of a stained slide.

    Args:
        stain: ``(H, W)`` sum of all stain, from `stack`.
        optics: Microscope and camera.
        width: Width of a chromosome, pixels: the scale of grain and haze.
        rng: Source of the grain, shading and noise.

    Returns:
        ``(H, W)`` uint8.
    """
    size = (stain.shape[0], stain.shape[1])
    if optics.grain > 0:
        stain = stain * (1 + optics.grain * field(size, 0.22 * width, rng))
    light = np.ones(size)
    if optics.shading > 0:
        light += optics.shading * field(size, 0.7 * max(size), rng)
    if optics.look == "gband":
        image = optics.background * light * 10 ** (-optics.gain * stain)
    else:
        image = optics.gain * light * stain
        if optics.haze > 0:
            # The halo is smooth: a quarter of the resolution holds it.
            coarse = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            spread = cv2.resize(blurred(np.asarray(coarse), 0.5 * width), size[::-1])
            image = (1 - optics.haze) * image + 1.5 * optics.haze * spread
        image += optics.background * light
    image = blurred(image, optics.blur)
    if optics.sharpening > 0:
        image += optics.sharpening * (image - blurred(image, 0.22 * width))
    if optics.read_noise > 0 or optics.shot_noise > 0:
        deviation = np.sqrt(optics.read_noise**2 + optics.shot_noise * np.maximum(image, 0))
        # In cameras and their files, the noise of neighbouring pixels is slightly correlated.
        noise = blurred(rng.standard_normal(size), 0.5)
        image += deviation * noise * 1.6
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
