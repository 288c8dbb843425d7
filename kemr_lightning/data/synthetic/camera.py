"""Microscope and camera of a clinical image: transmitted light or fluorescence, focus, light, noise and file."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.clutter import Float32, cloud, smooth


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
        stain *= 1 + np.float32(self.grain) * cloud(size, 0.2 * width, rng)
        light = 1 + np.float32(self.shading) * cloud(size, 0.8 * max(size), rng)
        if self.mottle > 0:
            stain += np.float32(self.mottle) * np.abs(cloud(size, self.mottle_scale, rng))
        if self.absorbs:
            # Beer and Lambert: the optical densities of what lies on top of each other add.
            image = cv2.exp(np.float32(-np.log(10) * self.gain) * stain) * (light * np.float32(self.background))
        else:
            image = stain * (light * np.float32(self.gain))
        if self.halo > 0:
            image = self._with_halo(image)
        if not self.absorbs:
            image += np.float32(self.background) * light
        image = smooth(image, self.blur)
        if self.sharpening > 0:
            image += np.float32(self.sharpening) * (image - smooth(image, self.sharpening_radius))
        if self.gamma != 1:
            cv2.max(image, 0, image)
            image = cv2.pow(image * np.float32(1 / 255), self.gamma) * np.float32(255)
        # The noise of neighbouring pixels is slightly correlated in cameras and their files.
        noise = smooth(rng.standard_normal(size, dtype=np.float32), 0.45) * np.float32(1.5)
        deviation = cv2.sqrt(np.float32(self.shot_noise) * cv2.max(image, 0) + np.float32(self.read_noise**2))
        image += deviation * noise
        return self._filed(np.clip(np.rint(image), 0, 255).astype(np.uint8))

    def _with_halo(self, image: Float32) -> Float32:
        """Spread part of the light; a coarse copy of the image is enough for that."""
        step = max(self.halo_radius / 2, 1.0)
        height, width = image.shape
        coarse_size = (max(round(width / step), 1), max(round(height / step), 1))
        coarse = cv2.resize(image, coarse_size, interpolation=cv2.INTER_AREA)
        spread = cv2.resize(smooth(np.asarray(coarse, np.float32), self.halo_radius / step), (width, height))
        return np.asarray(image * np.float32(1 - self.halo) + spread * np.float32(self.halo), dtype=np.float32)

    def _filed(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is left after inversion and compression."""
        if self.inverted:
            image = np.asarray(255 - image, dtype=np.uint8)
        if self.quality is None:
            return image
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
