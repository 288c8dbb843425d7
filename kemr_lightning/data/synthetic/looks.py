"""The looks of clinical images: what differs between G-bands, Q-bands and DAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.camera import Camera
from kemr_lightning.data.synthetic.crowd import Crowding
from kemr_lightning.data.synthetic.karyotype import Ideogram
from kemr_lightning.data.synthetic.layout import Form
from kemr_lightning.data.synthetic.strokes import Stain

FloatArray = NDArray[np.floating[Any]]

_STAINS = {
    "gband": {"n": 0.30, "a": 0.46, "b": 0.64, "c": 0.84, "d": 1.0, "e": 0.72, "v": 0.66, "s": 0.22},
    "qband": {"n": 0.52, "a": 0.64, "b": 0.76, "c": 0.90, "d": 1.0, "e": 0.62, "v": 0.80, "s": 0.30},
    "dapi": {"n": 0.66, "a": 0.74, "b": 0.82, "c": 0.92, "d": 1.0, "e": 0.85, "v": 1.10, "s": 0.50},
}
"""Stain of each band, see `karyotype`, relative to the darkest or brightest."""

_BRIGHT = {"qband": ("Y",), "dapi": ("1", "9", "15", "16", "Y")}
"""Chromosomes whose variable heterochromatin shines in fluorescence."""

_SAMPLES = 384
"""Number of samples along a band profile."""

_POSITIONS = (np.arange(_SAMPLES) + 0.5) / _SAMPLES


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _ripple(widths: float, rng: np.random.Generator) -> FloatArray:
    """A random profile that varies over about a chromosome's width, for a chromosome of that many widths."""
    knots = rng.standard_normal(int(2 * widths) + 3)
    return np.interp(_POSITIONS * (len(knots) - 1), np.arange(len(knots)), knots)


@dataclass(frozen=True)
class Preparation:
    """How the chromosomes of one cell were prepared and stained.

    Attributes:
        look: One of `settings.CLINICAL_LOOKS`.
        condensed: Degree of condensation, from 0 (prometaphase) to 1 (late metaphase).
        aspect: Length of chromosome 1 in widths.
        contrast: Contrast of the bands: 1 for the full map, 0 for uniform stain.
        smear: Standard deviation over which bands fade into each other, in widths.
        groove: Typical depth of the dip between the sister chromatids, as a fraction of the stain.
        taper: Decrease of the stain towards the sides.
        uneven: Standard deviation of the chromosomes' total stain, relative.
    """

    look: str
    condensed: float
    aspect: float
    contrast: float
    smear: float
    groove: float
    taper: float
    uneven: float

    @classmethod
    def draw(cls, look: str, rng: np.random.Generator) -> Preparation:
        """Draw a preparation of the given look."""
        condensed = float(rng.beta(1.3, 1.6) if look == "gband" else rng.beta(1.6, 1.3))
        longest, shortest = {"gband": (14.5, 6.3), "qband": (10.5, 5.0), "dapi": (13.5, 4.8)}[look]
        aspect = longest + (shortest - longest) * condensed + rng.normal(0, 0.6)
        return cls(
            look=look,
            condensed=condensed,
            aspect=float(np.clip(aspect, 4.5, 17)),
            contrast=rng.uniform(*{"gband": (0.6, 1.5), "qband": (0.8, 2.3), "dapi": (0.6, 2.5)}[look]),
            smear=rng.uniform(0.05, 0.16),
            groove=float(
                np.maximum(
                    {
                        "gband": rng.normal(0.02, 0.07),
                        "qband": rng.normal(0.4, 0.15),
                        "dapi": rng.normal(0.05 + 0.35 * condensed, 0.15),
                    }[look],
                    0,
                )
            ),
            taper=rng.uniform(0.1, 0.35) if look == "gband" else rng.uniform(0.15, 0.5),
            uneven=rng.uniform(0.04, 0.12) if look == "gband" else rng.uniform(0.08, 0.24),
        )

    def form(self, width: float, rng: np.random.Generator) -> Form:
        """Draw the traits of the chromosomes' shapes for a width in pixels."""
        deepest = {"gband": 0.22, "qband": 0.42, "dapi": 0.34}[self.look]
        split = rng.random() < (0.3 if self.look == "gband" else 0.7)
        return Form(
            condensed=self.condensed,
            width=width,
            pixels_per_megabase=self.aspect * width / 249,
            bend=rng.uniform(0.2, 2.2) * (1.2 - 0.8 * self.condensed),
            constriction=deepest * rng.uniform(0.3, 0.6 + 0.4 * self.condensed),
            notch=rng.uniform(0.1, 0.9) * self.condensed if split else 0.0,
        )

    def stain(self, bands: Ideogram, length: float, width: float, rng: np.random.Generator) -> Stain:
        """Draw the stain of one chromosome of the given length and width, pixels.

        The map has about 850 bands. The smear, a fraction of the width, merges them into the 400 to 550 of clinical
        images, and into fewer the more condensed, that is the shorter, the chromosomes are.
        """
        table = dict(_STAINS[self.look])
        if bands.name in _BRIGHT.get(self.look, ()):
            table["v"] = rng.uniform(1.1, 1.7)
        levels = np.array([table[stain] for stain in bands.stains])
        variable = np.array([stain in "vs" for stain in bands.stains])
        levels *= np.where(variable, rng.uniform(0.7, 1.3, len(levels)), rng.normal(1, 0.1, len(levels)))
        mean = float(np.average(levels, weights=np.diff(bands.edges)))
        levels = mean + self.contrast * (levels - mean)
        widths = length / width
        shift = rng.normal(0, 0.05) / widths
        sides = np.array([[-0.5], [0.5]])
        band = np.searchsorted(bands.edges, _POSITIONS + sides * shift) - 1
        profiles = levels[np.clip(band, 0, len(levels) - 1)]
        # Each chromatid's bands differ a little, and both vary along the arms.
        profiles = profiles * (1 + 0.06 * _ripple(widths, rng))
        profiles *= 1 + 0.05 * np.stack([_ripple(2 * widths, rng) for _ in sides])
        smear = self.smear / widths * _SAMPLES
        merged = cv2.GaussianBlur(profiles, (0, 0), smear, sigmaY=0.1, borderType=cv2.BORDER_REPLICATE)
        profiles = np.maximum(merged * np.exp(rng.normal(0, self.uneven)), 0.08).astype(np.float32)
        # Sister chromatids separate away from the centromere.
        apart = np.minimum(np.abs(_POSITIONS - bands.centromere) * widths, 1)
        groove = float(np.clip(rng.normal(self.groove, 0.07), 0, 0.75)) * (0.35 + 0.65 * apart)
        return Stain(
            profiles,
            slant=rng.normal(0, 0.09) * width,
            bow=rng.normal(0, 0.06) * width,
            groove=groove.astype(np.float32),
            groove_width=rng.uniform(0.16, 0.32),
            taper=float(np.clip(rng.normal(self.taper, 0.04), 0, 0.7)),
        )


def draw_crowding(look: str, overlap: float | None, rng: np.random.Generator) -> Crowding:
    """Draw how close the chromosomes of one cell lie.

    Args:
        look: One of `settings.CLINICAL_LOOKS`.
        overlap: Fraction of the chromosomes laid across or against others; None to draw it.
        rng: Source of randomness.
    """
    close = rng.uniform(0.1, 0.65) if overlap is None else overlap
    shares = rng.dirichlet([2.0, 2.0, 1.4] if look == "gband" else [1.0, 2.0, 1.4])
    return Crowding(
        crossing=close * shares[0],
        touching=close * shares[1],
        alongside=close * shares[2],
        occupied=_log_uniform(*{"gband": (0.16, 0.5), "qband": (0.1, 0.32), "dapi": (0.15, 0.5)}[look], rng),
        ragged=rng.uniform(0.05, 0.3),
        hollow=rng.uniform(0.2, 0.6) if rng.random() < 0.15 else 0.0,
    )


def draw_camera(look: str, width: float, rng: np.random.Generator) -> Camera:
    """Draw a microscope and a camera for chromosomes ``width`` pixels wide."""
    blur = max(_log_uniform(0.07, 0.17, rng) * width, 0.5)
    quality = int(rng.integers(60, 97)) if rng.random() < 0.5 else None
    if look == "gband":
        bleached = rng.random() < 0.6
        return Camera(
            absorbs=True,
            background=rng.uniform(246, 268) if bleached else rng.uniform(185, 250),
            gain=rng.uniform(0.3, 0.68),
            blur=blur,
            sharpening=rng.uniform(0.1, 1.3) if rng.random() < 0.65 else 0.0,
            sharpening_radius=rng.uniform(0.08, 0.3) * width,
            halo=rng.uniform(0, 0.12),
            halo_radius=_log_uniform(0.5, 3, rng) * width,
            shading=rng.uniform(0, 0.012 if bleached else 0.06),
            mottle=rng.uniform(0.0, 0.018),
            mottle_scale=_log_uniform(0.3, 4, rng) * width,
            grain=rng.uniform(0.01, 0.08),
            read_noise=_log_uniform(0.1, 2.5, rng),
            shot_noise=rng.uniform(0, 0.015),
            gamma=_log_uniform(0.8, 1.4, rng),
            quality=quality,
            inverted=bool(rng.random() < 0.04),
        )
    dapi = look == "dapi"
    dark = rng.random() < (0.25 if dapi else 0.8)
    return Camera(
        absorbs=False,
        background=rng.uniform(-8, 1.5) if dark else _log_uniform(2, 22 if dapi else 12, rng),
        gain=_log_uniform(110, 420, rng) if dapi else _log_uniform(140, 300, rng),
        blur=blur * rng.uniform(1.0, 2.2 if dapi else 1.5),
        sharpening=rng.uniform(0, 0.8) if rng.random() < 0.3 else 0.0,
        sharpening_radius=rng.uniform(0.1, 0.35) * width,
        halo=rng.uniform(0.05, 0.45) if dapi else rng.uniform(0, 0.15),
        halo_radius=_log_uniform(0.6, 5, rng) * width,
        shading=rng.uniform(0, 0.18),
        mottle=rng.uniform(0, 0.015),
        mottle_scale=_log_uniform(0.5, 6, rng) * width,
        grain=rng.uniform(0.02, 0.1),
        read_noise=_log_uniform(0.1, 2.5, rng),
        shot_noise=rng.uniform(0, 0.08),
        gamma=_log_uniform(0.8, 1.3, rng),
        quality=quality,
        inverted=bool(rng.random() < 0.04),
    )
