"""The exact engine: mean field by brute force in float64, against which the others are tested."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.parameters import kernels_of
from kemr_lightning.refinement.unary import clipped_logit

CACHED_PAIRS = 50_000_000
"""Pairs of pixels whose kernels are kept between updates (two float64 each); larger crops compute them again."""

BLOCK_PAIRS = 4_000_000
"""Pairs in memory at a time."""


def refine_exact(crops: Crops, parameters: Tensor, iterations: int, tolerance: float) -> Tensor:  # noqa: ARG001
    """Refine each crop with all pairs of pixels, in float64. Time and memory grow with the square of the pixels.

    Args:
        crops: The crops.
        parameters: ``(N, 6)``, columns as in `PARAMETER_NAMES`.
        iterations: Mean-field updates.
        tolerance: Not used; the result is exact.

    Returns:
        ``(P,)`` float32 refined probabilities on the crops' device.
    """
    refined = [
        _refine_one(intensity.numpy(), prob.numpy(), row, iterations)
        for intensity, prob, row in zip(
            crops.unpack(crops.intensity.cpu()),
            crops.unpack(crops.prob.detach().cpu()),
            parameters.detach().double().tolist(),
            strict=True,
        )
    ]
    return torch.from_numpy(np.concatenate([q.ravel() for q in refined])).float().to(crops.prob.device)


def _refine_one(intensity: np.ndarray, prob: np.ndarray, parameters: list[float], iterations: int) -> np.ndarray:
    appearance, smoothness, temperature = kernels_of(parameters)
    z0 = clipped_logit(prob.astype(np.float64).ravel()) / temperature
    messages: list[tuple[float, _Kernel]] = []
    if appearance.weight > 0 and iterations > 0:
        messages.append((appearance.weight, _Kernel(intensity, appearance.sigma, appearance.sigma_intensity)))
    if smoothness.weight > 0 and iterations > 0:
        messages.append((smoothness.weight, _Kernel(intensity, smoothness.sigma, None)))
    z = z0
    for _ in range(iterations):
        difference = np.tanh(z / 2)
        z = z0 + sum(weight * kernel.apply(difference) for weight, kernel in messages)
    return np.asarray(1 / (1 + np.exp(-z)))


class _Kernel:
    """A symmetrically normalised Gaussian kernel over all pairs of pixels of a crop.

    Args:
        intensity: ``(h, w)`` uint8.
        sigma: Standard deviation in pixels.
        sigma_intensity: Standard deviation in grey levels; None for a kernel of the positions alone.
    """

    def __init__(self, intensity: np.ndarray, sigma: float, sigma_intensity: float | None) -> None:
        height, width = intensity.shape
        self._levels = intensity.astype(np.int64).ravel()
        self._along_y = _gaussian(np.arange(height), sigma)
        self._along_x = _gaussian(np.arange(width), sigma)
        self._of_intensity = None if sigma_intensity is None else _gaussian(np.arange(256), sigma_intensity)
        self._blocks = list(self._rows()) if self._levels.size**2 <= CACHED_PAIRS else None
        self._norm = 1 / np.sqrt(self._multiply(np.ones(self._levels.size)))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """``D^-1/2 K D^-1/2 values``."""
        return np.asarray(self._norm * self._multiply(self._norm * values))

    def _multiply(self, values: np.ndarray) -> np.ndarray:
        return np.concatenate([block @ values for block in (self._rows() if self._blocks is None else self._blocks)])

    def _rows(self) -> Iterator[np.ndarray]:
        """The kernel matrix, in blocks of whole image rows."""
        height, width = len(self._along_y), len(self._along_x)
        step = max(1, BLOCK_PAIRS // (width * height * width))
        for top in range(0, height, step):
            along_y = self._along_y[top : top + step, None, :, None]
            block = (along_y * self._along_x[None, :, None, :]).reshape(-1, height * width)
            if self._of_intensity is not None:
                rows = self._levels[top * width : top * width + len(block)]
                # The kernel at each of the 256 levels first, then one gather of columns.
                block *= self._of_intensity[rows][:, self._levels]
            yield block


def _gaussian(positions: np.ndarray, sigma: float) -> np.ndarray:
    """``(n, n)`` Gaussian of the distance between positions."""
    return np.asarray(np.exp(-((positions[:, None] - positions[None, :]) ** 2) / (2 * sigma**2)))
