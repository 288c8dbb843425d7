"""The reference library, pydensecrf: Krähenbühl's own C++ with a permutohedral lattice."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.parameters import kernels_of
from kemr_lightning.refinement.refinement_errors import RefinementSettingError
from kemr_lightning.refinement.unary import clipped_logit


def refine_pydensecrf(crops: Crops, parameters: Tensor, iterations: int, tolerance: float) -> Tensor:  # noqa: ARG001
    """Refine each crop with pydensecrf, with the appearance kernel on (x, y, intensity).

    Two labels, Potts, `NORMALIZE_SYMMETRIC`, the full kernel. The lattice approximates the kernels (mask IoU
    0.975-0.997 to ``exact``), whatever the tolerance.

    Args:
        crops: The crops.
        parameters: ``(N, 6)``, columns as in `PARAMETER_NAMES`.
        iterations: Mean-field updates.
        tolerance: Not used.

    Returns:
        ``(P,)`` float32 refined probabilities on the crops' device.

    Raises:
        RefinementSettingError: pydensecrf is not installed.
    """
    library = _library()
    refined = [
        refine_one(library, intensity.numpy(), prob.numpy(), row, iterations)
        for intensity, prob, row in zip(
            crops.unpack(crops.intensity.cpu()),
            crops.unpack(crops.prob.detach().cpu()),
            parameters.detach().tolist(),
            strict=True,
        )
    ]
    return torch.from_numpy(np.concatenate([q.ravel() for q in refined])).to(crops.prob.device)


def _library() -> Any:
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise RefinementSettingError(
            "engine",
            "pydensecrf",
            "needs the package pydensecrf",
            "Install it with `pip install pydensecrf2` (needs a C++ compiler) or `conda install -c conda-forge "
            "pydensecrf`, or choose another engine",
        ) from error
    return densecrf


def refine_one(
    library: Any,
    intensity: np.ndarray,
    prob: np.ndarray,
    parameters: list[float],
    iterations: int,
    colour: bool = False,
) -> np.ndarray:
    """Refine one crop.

    Args:
        library: The module ``pydensecrf.densecrf``.
        intensity: ``(h, w)`` uint8.
        prob: ``(h, w)`` float32 in [0, 1].
        parameters: The six values of `PARAMETER_NAMES`.
        iterations: Mean-field updates.
        colour: Use the five-dimensional kernel on the image replicated to RGB, as most users of the library do, instead
            of the three-dimensional one. It is the same kernel on another lattice: distances in RGB are the square root
            of 3 times those in grey levels.

    Returns:
        ``(h, w)`` float32 refined probability.
    """
    appearance, smoothness, temperature = kernels_of(parameters)
    height, width = prob.shape
    z0 = clipped_logit(prob.astype(np.float32).ravel()) / temperature
    # Energies -log(1 - q), -log q of q = sigmoid(z0), without overflow.
    unary = np.stack([np.logaddexp(0, z0), np.logaddexp(0, -z0)]).astype(np.float32)
    if iterations == 0:
        return np.asarray(np.exp(-unary[1]).reshape(height, width))
    crf = library.DenseCRF2D(width, height, 2)
    crf.setUnaryEnergy(np.ascontiguousarray(unary))
    if appearance.weight > 0 and colour:
        rgb = np.ascontiguousarray(np.repeat(intensity[:, :, None], 3, axis=2))
        srgb = appearance.sigma_intensity * 3**0.5
        crf.addPairwiseBilateral(sxy=appearance.sigma, srgb=srgb, rgbim=rgb, compat=appearance.weight)
    elif appearance.weight > 0:
        scaled = intensity.astype(np.float32)[None] / np.float32(appearance.sigma_intensity)
        rows, columns = np.mgrid[:height, :width].astype(np.float32) / np.float32(appearance.sigma)
        features = np.concatenate([columns[None], rows[None], scaled]).reshape(3, -1)
        crf.addPairwiseEnergy(np.ascontiguousarray(features), compat=appearance.weight)
    if smoothness.weight > 0:
        crf.addPairwiseGaussian(sxy=smoothness.sigma, compat=smoothness.weight)
    return np.asarray(np.array(crf.inference(iterations), dtype=np.float32)[1].reshape(height, width))
