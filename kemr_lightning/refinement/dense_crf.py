"""The fully connected CRF of one instance against its background: the way into its engines.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials" (2011), for two
labels with a Potts compatibility; `parameters` has the formulas. With two labels the difference of the two label
probabilities is ``tanh(z / 2)``, z the logit, so filtering one channel is enough. The update equals pydensecrf's with
``NORMALIZE_SYMMETRIC``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines import DEFAULT_ENGINE, ENGINES
from kemr_lightning.refinement.parameters import PARAMETER_NAMES, CRFParams
from kemr_lightning.refinement.refinement_errors import RefinementError, RefinementSettingError

__all__ = [
    "DEFAULT_TOLERANCE",
    "PARAMETER_NAMES",
    "CRFParams",
    "RefinementError",
    "check_engine",
    "check_probability",
    "luma",
    "refine_crops",
    "refine_packed",
    "refine_probability",
]

DEFAULT_TOLERANCE = 0.01
"""Intended largest difference of a refined probability from the exact mean field's."""


def luma(image: Tensor) -> Tensor:
    """One intensity channel of an image.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8 RGB.

    Returns:
        ``(H, W)`` uint8. Colour becomes BT.601 luma, (299 R + 587 G + 114 B) / 1000 rounded half up in integers, so
        that grey replicated to RGB gives exactly the grey image.

    Raises:
        RefinementError: The image has another shape or type.
    """
    if image.dtype != torch.uint8:
        raise RefinementError(f"the image must be uint8 (0-255), not {str(image.dtype).removeprefix('torch.')}")
    if image.ndim == 2:
        return image
    if image.ndim != 3 or image.shape[2] != 3:
        raise RefinementError(f"the image must have shape (H, W) or (H, W, 3), not {tuple(image.shape)}")
    red, green, blue = image.to(torch.int32).unbind(dim=2)
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).to(torch.uint8)


@overload
def refine_probability(
    image: np.ndarray, prob: np.ndarray, params: CRFParams, engine: str = ..., tolerance: float = ...
) -> np.ndarray: ...
@overload
def refine_probability(
    image: Tensor, prob: Tensor, params: CRFParams, engine: str = ..., tolerance: float = ...
) -> Tensor: ...
def refine_probability(
    image: np.ndarray | Tensor,
    prob: np.ndarray | Tensor,
    params: CRFParams,
    engine: str = DEFAULT_ENGINE,
    tolerance: float = DEFAULT_TOLERANCE,
) -> np.ndarray | Tensor:
    """Refine one probability map; no cropping inside.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8; see `luma` for colour.
        prob: ``(H, W)`` float in [0, 1].
        params: The CRF's parameters.
        engine: A name in `ENGINES`.
        tolerance: Intended largest difference from the exact result; ``"pydensecrf"`` and ``"exact"`` ignore it.

    Returns:
        ``(H, W)`` float32: an array for an array, a tensor on ``prob``'s device for a tensor. From ``"torch"`` a tensor
        has gradients in ``prob`` and in those of ``params`` that require them.

    Raises:
        RefinementError: The shapes do not match, a type is wrong, a probability is NaN or outside [0, 1], the engine is
            unknown, or the tolerance is not positive.
    """
    pixels, chance = _as_tensor(image, "image"), _as_tensor(prob, "probability")
    if not isinstance(prob, np.ndarray):
        return refine_crops([pixels], [chance], params, engine, tolerance)[0]
    with torch.no_grad():  # An array has no gradient, and without them the compiled engine can run.
        return refine_crops([pixels], [chance], params, engine, tolerance)[0].numpy()


def _as_tensor(values: np.ndarray | Tensor, what: str) -> Tensor:
    """Arrays are copied: torch refuses negative strides and foreign byte orders, and warns about read-only memory."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise RefinementError(f"the {what} must be an array of numbers, not of {array.dtype}") from error


def refine_crops(
    images: Sequence[Tensor],
    probs: Sequence[Tensor],
    params: CRFParams | Sequence[CRFParams],
    engine: str = DEFAULT_ENGINE,
    tolerance: float = DEFAULT_TOLERANCE,
) -> list[Tensor]:
    """Refine several crops at once, each by itself.

    Args:
        images: N crops ``(h, w)`` or ``(h, w, 3)`` uint8.
        probs: N probabilities ``(h, w)`` float in [0, 1].
        params: One set for all, or one per crop.
        engine: As in `refine_probability`.
        tolerance: As in `refine_probability`.

    Returns:
        N refined probabilities ``(h, w)`` float32 on the probabilities' device.

    Raises:
        RefinementError: As in `refine_probability`; the message names the instance.
    """
    if len(images) != len(probs):
        raise RefinementError(f"{len(images)} images for {len(probs)} probabilities")
    intensities = []
    for index, (image, prob) in enumerate(zip(images, probs, strict=True)):
        if prob.ndim != 2 or prob.numel() == 0 or tuple(image.shape[:2]) != tuple(prob.shape):
            raise RefinementError(
                f"instance {index}: the probability's shape {tuple(prob.shape)} must be the image's (H, W), and not "
                f"empty; the image has shape {tuple(image.shape)}"
            )
        if not prob.is_floating_point():
            raise RefinementError(f"instance {index}: the probability must be floating point, not {prob.dtype}")
        intensities.append(luma(image).to(prob.device))
    crops = Crops.pack(intensities, [prob.float() for prob in probs])
    return crops.unpack(refine_packed(crops, params, engine, tolerance))


def refine_packed(
    crops: Crops,
    params: CRFParams | Sequence[CRFParams],
    engine: str = DEFAULT_ENGINE,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Tensor:
    """`refine_crops` on packed crops, ``(P,)`` -> ``(P,)`` float32."""
    check_engine(engine, tolerance)
    each = [params] * len(crops) if isinstance(params, CRFParams) else list(params)
    if len(each) != len(crops):
        raise RefinementError(f"{len(each)} parameter sets for {len(crops)} instances")
    if not each:
        return crops.prob
    check_probability(crops.prob, crops.areas)
    rows = [params.to_tensor()] * len(each) if isinstance(params, CRFParams) else [one.to_tensor() for one in each]
    # Rows of plain numbers are on the CPU, rows of tensors where these are.
    table = torch.stack([row.to(crops.prob.device) for row in rows] if len({r.device for r in rows}) > 1 else rows)
    return _run_by_iterations(crops, table, [one.iterations for one in each], engine, tolerance)


def _run_by_iterations(crops: Crops, table: Tensor, iterations: Sequence[int], engine: str, tolerance: float) -> Tensor:
    """Run an engine once for each number of iterations, on the crops with this number."""
    run = ENGINES[engine]
    if len(set(iterations)) == 1:
        return run(crops, table, iterations[0], tolerance)
    refined = list(crops.prob.split_with_sizes(crops.areas))
    for count in sorted(set(iterations)):
        index = [which for which, wanted in enumerate(iterations) if wanted == count]
        part = crops.select(index)
        values = run(part, table[index], count, tolerance).split_with_sizes(part.areas)
        for which, probability in zip(index, values, strict=True):
            refined[which] = probability
    return torch.cat(refined)


def check_engine(engine: str, tolerance: float) -> None:
    """Raise `RefinementSettingError` for an unknown engine or a tolerance that is not positive."""
    if engine not in ENGINES:
        known = f"Choose one of {', '.join(sorted(ENGINES))}"
        raise RefinementSettingError("engine", engine, "is an unknown refinement engine", known)
    if not tolerance > 0:
        cure = f"It is a difference of probabilities; {DEFAULT_TOLERANCE} is usual"
        raise RefinementSettingError("tolerance", tolerance, "must be greater than 0", cure)


def check_probability(prob: Tensor, areas: Sequence[int]) -> None:
    """Raise `RefinementError` naming the first instance with NaN or values outside [0, 1].

    One reduction for all instances, so that the CPU waits for a GPU only once. Interpolation may overshoot by rounding,
    which is allowed (the engines clip).

    Args:
        prob: ``(P,)`` probabilities of all instances, end to end.
        areas: Pixels of each instance.
    """
    wrong = ~((prob >= -1e-4) & (prob <= 1 + 1e-4))
    if not bool(wrong.any()):
        return
    parts = zip(wrong.split_with_sizes(list(areas)), prob.split_with_sizes(list(areas)), strict=True)
    for index, (bad, values) in enumerate(parts):
        if bool(bad.any()):
            what = "NaN" if bool(values.isnan().any()) else f"{float(values[bad][0])}, which is outside [0, 1]"
            raise RefinementError(f"instance {index}: its probability contains {what}")
