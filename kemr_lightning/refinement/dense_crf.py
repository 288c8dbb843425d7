"""The fully connected CRF of one instance against its background: parameters and the one entry to its engines.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials" (2011), for two
labels. With the logit ``z0`` of the initial probability and the kernels

    appearance ``K1_ij = exp(-|p_i - p_j|² / 2 sigma_alpha² - (I_i - I_j)² / 2 sigma_beta²)``
    smoothness ``K2_ij = exp(-|p_i - p_j|² / 2 sigma_gamma²)``

each normalised symmetrically, ``K~ = D^-1/2 K D^-1/2`` with ``D = K 1`` and the self term included, the mean-field
update of a Potts model is ``z <- z0 / temperature + w1 K~1 tanh(z / 2) + w2 K~2 tanh(z / 2)``: with two labels the
difference of the two label probabilities is ``tanh(z / 2)``, so one filtered channel is enough. It is pydensecrf's
update with ``NORMALIZE_SYMMETRIC``, which is tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.core.errors import UserError
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines import ENGINES

PARAMETER_NAMES = ("sigma_alpha", "sigma_beta", "sigma_gamma", "w1", "w2", "temperature")
"""The real-valued parameters, in the order of the columns of a ``(N, 6)`` parameter tensor."""

DEFAULT_TOLERANCE = 0.01
"""Intended largest difference of a refined probability from the exact mean field's."""


class RefinementError(UserError, ValueError):
    """Input that the CRF cannot work on; names the parameter, option or instance."""


@dataclass(frozen=True)
class CRFParams:
    """Parameters of the CRF: numbers, or tensors without dimensions, which gradients flow to (but ``iterations``).

    Attributes:
        sigma_alpha: Reach of the appearance kernel in pixels, > 0.
        sigma_beta: Its reach in intensity, in grey levels (0-255) of one channel, > 0.
        sigma_gamma: Reach of the smoothness kernel in pixels, > 0.
        w1: Weight of the appearance kernel, >= 0.
        w2: Weight of the smoothness kernel, >= 0.
        iterations: Mean-field updates, >= 0; 0 returns the initial probability (after the temperature).
        temperature: Divides the logit of the initial probability, > 0; above 1 the image decides more.

    Raises:
        RefinementError: A value outside its range (a `ValueError`, too).
    """

    sigma_alpha: float | Tensor = 2.0
    sigma_beta: float | Tensor = 9.0
    sigma_gamma: float | Tensor = 3.0
    w1: float | Tensor = 3.0
    w2: float | Tensor = 0.0
    iterations: int = 5
    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and value.ndim == 0 and field.name != "iterations":
                # A tensor of truth values or complex numbers stays one here, and is refused below.
                value = value.detach().item()
            wanted = (int, np.integer) if field.name == "iterations" else (int, float, np.integer, np.floating)
            if isinstance(value, bool) or not isinstance(value, wanted):
                kind = "a whole number" if field.name == "iterations" else "a number"
                raise RefinementError(f"CRF parameter {field.name} must be {kind}, not {value!r}.")
            if not math.isfinite(value):
                raise RefinementError(f"CRF parameter {field.name} must be finite, not {value}.")
            zero_allowed = field.name in ("w1", "w2", "iterations")
            if value < 0 or (value == 0 and not zero_allowed):
                bound = "0 or more" if zero_allowed else "greater than 0"
                raise RefinementError(f"CRF parameter {field.name} must be {bound}, not {value}.")

    def to_tensor(self) -> Tensor:
        """``(6,)`` float32 in the order of `PARAMETER_NAMES`, on the device of those that are tensors."""
        values = [getattr(self, name) for name in PARAMETER_NAMES]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if not tensors:
            return torch.tensor([float(value) for value in values])
        return torch.stack([torch.as_tensor(value).to(tensors[0].device, torch.float32) for value in values])

    def numbers(self) -> CRFParams:
        """The same with plain numbers in place of tensors, as files hold it."""
        tensors: dict[str, Any] = {name: v.item() for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    @classmethod
    def from_tensor(cls, values: Tensor, iterations: int) -> CRFParams:
        """The inverse of `to_tensor`."""
        return cls(**dict(zip(PARAMETER_NAMES, values.detach().tolist(), strict=True)), iterations=iterations)


def to_intensity(image: Tensor) -> Tensor:
    """One intensity channel of an image.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8 RGB.

    Returns:
        ``(H, W)`` uint8. Colour becomes BT.601 luma, (299 R + 587 G + 114 B) / 1000 rounded half up in integers, so
        that grey replicated to RGB gives exactly the grey image.

    Raises:
        RefinementError: Another shape or type.
    """
    if image.dtype != torch.uint8:
        raise RefinementError(f"the image must be uint8 (0-255), not {str(image.dtype).removeprefix('torch.')}.")
    if image.ndim == 2:
        return image
    if image.ndim != 3 or image.shape[2] != 3:
        raise RefinementError(f"the image must have shape (H, W) or (H, W, 3), not {tuple(image.shape)}.")
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
    engine: str = "torch",
    tolerance: float = DEFAULT_TOLERANCE,
) -> np.ndarray | Tensor:
    """Refine one probability map; no cropping inside.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8; see `to_intensity` for colour.
        prob: ``(H, W)`` float in [0, 1].
        params: The CRF's parameters.
        engine: ``"torch"``, ``"pydensecrf"`` or ``"exact"``.
        tolerance: Intended largest difference from the exact result; used by ``"torch"`` only.

    Returns:
        ``(H, W)`` float32: an array for an array, a tensor on ``prob``'s device for a tensor. From ``"torch"`` a tensor
        has gradients in ``prob`` and in those of ``params`` that require them.

    Raises:
        RefinementError: Shapes that do not match, wrong types, NaN, an unknown engine.
    """
    pixels, chance = _as_tensor(image, "image"), _as_tensor(prob, "probability")
    if not isinstance(prob, np.ndarray):
        return refine_crops([pixels], [chance], params, engine, tolerance)[0]
    with torch.no_grad():  # An array has no gradient, and without them the compiled engine can run.
        return refine_crops([pixels], [chance], params, engine, tolerance)[0].numpy()


def _as_tensor(values: np.ndarray | Tensor, what: str) -> Tensor:
    """Arrays are copied: torch takes none that is read backwards or of the other byte order, and warns of read-only."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise RefinementError(f"the {what} must be an array of numbers, not of {array.dtype}.") from error


def refine_crops(
    images: Sequence[Tensor],
    probs: Sequence[Tensor],
    params: CRFParams | Sequence[CRFParams],
    engine: str = "torch",
    tolerance: float = DEFAULT_TOLERANCE,
) -> list[Tensor]:
    """Refine several crops at once, each on its own.

    Args:
        images: N crops ``(h, w)`` or ``(h, w, 3)`` uint8.
        probs: N probabilities ``(h, w)`` float in [0, 1].
        params: One set for all, or one per crop.
        engine: As in `refine_probability`.
        tolerance: As in `refine_probability`.

    Returns:
        N refined probabilities ``(h, w)`` float32 on the probabilities' device.

    Raises:
        RefinementError: As in `refine_probability`; the message says which instance.
    """
    if len(images) != len(probs):
        raise RefinementError(f"{len(images)} images for {len(probs)} probabilities.")
    intensities = []
    for index, (image, prob) in enumerate(zip(images, probs, strict=True)):
        if prob.ndim != 2 or prob.numel() == 0 or tuple(image.shape[:2]) != tuple(prob.shape):
            raise RefinementError(
                f"instance {index}: the probability's shape {tuple(prob.shape)} must be the image's (H, W), and not "
                f"empty; the image has shape {tuple(image.shape)}."
            )
        if not prob.is_floating_point():
            raise RefinementError(f"instance {index}: the probability must be floating point, not {prob.dtype}.")
        intensities.append(to_intensity(image).to(prob.device))
    crops = Crops.pack(intensities, [prob.float() for prob in probs])
    return crops.unpack(refine_packed(crops, params, engine, tolerance))


def refine_packed(
    crops: Crops,
    params: CRFParams | Sequence[CRFParams],
    engine: str = "torch",
    tolerance: float = DEFAULT_TOLERANCE,
) -> Tensor:
    """`refine_crops` on packed crops, ``(P,)`` -> ``(P,)`` float32."""
    check_engine(engine, tolerance)
    each = [params] * len(crops) if isinstance(params, CRFParams) else list(params)
    if len(each) != len(crops):
        raise RefinementError(f"{len(each)} parameter sets for {len(crops)} instances.")
    if not each:
        return crops.prob
    check_probability(crops.prob, crops.areas)
    rows = [params.to_tensor()] * len(each) if isinstance(params, CRFParams) else [one.to_tensor() for one in each]
    # Rows of plain numbers are on the CPU, those with tensors where these are.
    table = torch.stack([row.to(crops.prob.device) for row in rows] if len({r.device for r in rows}) > 1 else rows)
    run = ENGINES[engine]
    rounds = {one.iterations for one in each}
    if len(rounds) == 1:
        return run(crops, table, rounds.pop(), tolerance)
    refined = list(crops.prob.split_with_sizes(crops.areas))
    for iterations in sorted(rounds):
        index = [i for i, one in enumerate(each) if one.iterations == iterations]
        part = crops.select(index)
        for i, values in zip(
            index, run(part, table[index], iterations, tolerance).split_with_sizes(part.areas), strict=True
        ):
            refined[i] = values
    return torch.cat(refined)


def check_engine(engine: str, tolerance: float) -> None:
    """Raise `RefinementError` for an unknown engine or a tolerance that is not positive."""
    if engine not in ENGINES:
        raise RefinementError(f"unknown refinement engine {engine!r}. Choose one of {', '.join(sorted(ENGINES))}.")
    if not tolerance > 0:
        raise RefinementError(f"the refinement's tolerance must be greater than 0, not {tolerance}.")


def check_probability(prob: Tensor, areas: Sequence[int]) -> None:
    """Raise `RefinementError` naming the first instance with NaN or values outside [0, 1].

    One reduction for all instances, so that a GPU is waited for once. Interpolation may overshoot by rounding; that is
    let through (the engines clip).

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
            raise RefinementError(f"instance {index}: its probability contains {what}.")
