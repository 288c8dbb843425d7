"""What else lies on a clinical slide: interphase nuclei, their lobes and remains, precipitate, dirt and droplets."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]


_DIRECTIONS = 2048
"""Directions in which the outline of a nucleus is known."""


def softened(values: Float32, sigma: float) -> Float32:
    """Blur ``(H, W)`` float32 values with a Gaussian of ``sigma`` pixels, continuing those at the border beyond it."""
    blurred = cv2.GaussianBlur(values, (0, 0), max(sigma, 0.15), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def cloud(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Float32:
    """Draw a smooth random field of mean 0 and standard deviation about 1 that varies over ``scale`` pixels."""
    step = max(scale / 2, 1.0)
    rows, columns = (max(int(np.ceil(side / step)), 3) for side in size)
    coarse = softened(rng.standard_normal((rows, columns), dtype=np.float32), 1.0)
    coarse /= max(float(coarse.std()), 1e-6)
    if (rows, columns) == size:
        return coarse
    # Linear interpolation shows its grid where that is wide.
    how = cv2.INTER_LINEAR if step < 4 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=how), dtype=np.float32)


def half_cloud(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Float32:
    """The same at half the resolution of an image of ``(H, W)``; pixel ``(i, j)`` reads ``[i // 2, j // 2]``."""
    return cloud(((size[0] + 1) // 2, (size[1] + 1) // 2), scale / 2, rng)


class Slide:
    """Stain on the slide, in units of a chromosome's darkest (or brightest) band."""

    def __init__(self, image_size: tuple[int, int], width: float, absorbs: bool, rng: np.random.Generator) -> None:
        """Start with a clean slide.

        Args:
            image_size: ``(H, W)`` pixels.
            width: Typical width of a chromosome, pixels.
            absorbs: True for dark stain in transmitted light, False for bright stain in fluorescence.
            rng: Source of randomness.
        """
        self.canvas: Float32 = np.zeros(image_size, np.float32)
        self.width, self.absorbs, self.rng = width, absorbs, rng
        self.taken: list[tuple[float, float, float]] = []

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc lies beside all nuclei."""
        return all(np.hypot(x - a, y - b) > 0.9 * (radius + reach) for a, b, reach in self.taken)

    def _window(self, x: float, y: float, reach: float) -> tuple[Float32, FloatArray, FloatArray] | None:
        """A view of the canvas around a point, and its pixels' positions relative to it; None if there are none."""
        height, columns = self.canvas.shape
        x0, y0 = max(int(x - reach), 0), max(int(y - reach), 0)
        x1, y1 = min(int(x + reach) + 1, columns), min(int(y + reach) + 1, height)
        if x1 <= x0 or y1 <= y0:
            return None
        across = (np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - x))[None, :]
        down = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - y))[:, None]
        return self.canvas[y0:y1, x0:x1], across, down

    def _body(self, across: FloatArray, down: FloatArray, radius: float, wobble: float) -> Float32:
        """Coverage of a roundish, wavy body around the origin."""
        angle = np.linspace(-np.pi, np.pi, _DIRECTIONS, endpoint=False)
        turn, stretch = self.rng.uniform(0, np.pi), self.rng.uniform(1, 1.4)
        border = radius / np.sqrt(np.cos(angle - turn) ** 2 * stretch + np.sin(angle - turn) ** 2 / stretch)
        for order in (2, 3, 5, 8):
            amplitude, phase = 1.6 * wobble / order**1.5 * self.rng.normal(), self.rng.uniform(0, 2 * np.pi)
            border *= 1 + amplitude * np.cos(order * angle + phase)
        direction = (np.arctan2(down, across) + np.float32(np.pi)) * np.float32(_DIRECTIONS / (2 * np.pi))
        outline = border.astype(np.float32)[direction.astype(np.int32) % _DIRECTIONS]
        depth = outline - np.sqrt(across * across + down * down)
        return np.asarray(np.clip(depth + 0.5, 0, 1), dtype=np.float32)

    def nucleus(self, x: float, y: float, radius: float, level: float, wobble: float = 0.12) -> None:
        """Paint an interphase nucleus with its chromatin, nucleoli and a soft rim."""
        found = self._window(x, y, 1.9 * radius + 2)
        if found is None:
            return
        self.taken.append((x, y, radius))
        window, across, down = found
        rng = self.rng
        body = self._body(across, down, radius, wobble)
        size = (body.shape[0], body.shape[1])
        inside = 1 + np.float32(rng.uniform(0.03, 0.16)) * cloud(size, max(0.12 * self.width, 1.2), rng)
        inside += np.float32(rng.uniform(0.04, 0.22)) * cloud(size, rng.uniform(0.3, 1.0) * self.width, rng)
        inside += np.float32(rng.uniform(0.0, 0.12)) * cloud(size, radius, rng)
        for _ in range(rng.poisson(1.5)):
            # A nucleolus or chromocentre.
            angle, distance = rng.uniform(0, 2 * np.pi), 0.75 * radius * np.sqrt(rng.random())
            dx, dy = across - distance * np.cos(angle), down - distance * np.sin(angle)
            extent = rng.uniform(0.08, 0.25) * radius
            inside += np.float32(rng.uniform(-0.4, 0.3)) * np.exp(-(dx * dx + dy * dy) / (2 * extent * extent))
        body = softened(body, rng.uniform(0.02, 0.12) * self.width)
        window += np.float32(level) * body * np.maximum(inside, 0.1)

    def cluster(self, x: float, y: float, radius: float, level: float) -> None:
        """Paint the lobes of a granulocyte or a dividing cell seen from outside its focus."""
        for _ in range(int(self.rng.integers(2, 5))):
            angle = self.rng.uniform(0, 2 * np.pi)
            shift = self.rng.uniform(0.5, 1.0) * radius
            self.nucleus(x + shift * np.cos(angle), y + shift * np.sin(angle), 0.7 * radius, level, 0.15)

    def cytoplasm(self, x: float, y: float, radius: float, level: float) -> None:
        """Paint the faint, cloudy remains of a cell."""
        found = self._window(x, y, 1.9 * radius + 2)
        if found is None:
            return
        window, across, down = found
        body = softened(self._body(across, down, radius, 0.3), 0.06 * radius)
        texture = 1 + np.float32(0.35) * cloud((body.shape[0], body.shape[1]), 0.25 * radius, self.rng)
        window += np.float32(level) * body * np.maximum(texture, 0)

    def flecks(self, x: float, y: float, extent: float, count: int, level: float) -> None:
        """Paint grains of precipitate that lie together: dots, slivers and crumbs with sharp edges."""
        rng = self.rng
        for _ in range(count):
            radius = self.width * np.exp(rng.normal(np.log(0.1), 0.45))
            angle, ratio = rng.uniform(0, np.pi), rng.uniform(1, 4)
            at_x, at_y = x + rng.normal(0, extent), y + rng.normal(0, extent)
            found = self._window(at_x, at_y, 2.2 * radius * np.sqrt(ratio) + 2)
            if found is None:
                continue
            window, across, down = found
            along = across * np.cos(angle) + down * np.sin(angle)
            aside = down * np.cos(angle) - across * np.sin(angle) + rng.normal(0, 0.3) * along * along / radius / ratio
            distance = np.sqrt(along * along / ratio + aside * aside * ratio)
            window += np.float32(level * rng.uniform(0.5, 1.2)) * np.clip(radius - distance + 0.5, 0, 1)

    def shard(self, x: float, y: float, length: float, level: float) -> None:
        """Paint a streak or crystal of stain, ragged and uneven, about as large as a chromosome or larger."""
        found = self._window(x, y, 0.8 * length + 2)
        if found is None:
            return
        window, across, down = found
        rng = self.rng
        angle, thick = rng.uniform(0, np.pi), length * rng.uniform(0.08, 0.3)
        along = across * np.cos(angle) + down * np.sin(angle)
        aside = down * np.cos(angle) - across * np.sin(angle)
        size = (window.shape[0], window.shape[1])
        edge = thick * (1 - (2 * along / length) ** 2) * (1 + 0.5 * cloud(size, 0.4 * thick + 1, rng))
        body = np.clip(edge - np.abs(aside + 0.3 * thick * cloud(size, length / 2, rng)) + 0.5, 0, 1)
        window += np.float32(level) * body * np.maximum(1 + 0.35 * cloud(size, 0.4 * thick + 1, rng), 0.1)

    def droplet(self, x: float, y: float, radius: float, strength: float) -> None:
        """Paint the dark ring and bright centre of a refracting droplet, or a ring of dust out of focus."""
        found = self._window(x, y, 2 * radius + 3)
        if found is None:
            return
        window, across, down = found
        distance = np.sqrt(across * across + down * down) / radius
        thin = self.rng.uniform(0.12, 0.35)
        window += np.float32(strength) * (
            np.exp(-(((distance - 1) / thin) ** 2)) - 0.3 * np.exp(-((distance / 0.7) ** 2))
        )

    def haze(self, x: float, y: float, radius: float, level: float) -> None:
        """Paint a spot far out of focus."""
        found = self._window(x, y, 3 * radius)
        if found is None:
            return
        window, across, down = found
        window += np.float32(level) * np.exp(-(across * across + down * down) / (2 * radius * radius))
