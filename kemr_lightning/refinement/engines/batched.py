"""Mean field in tensor operations: on every device, and with gradients in all parameters.

Space is exact: the Gaussian of a rectangle of pixels is a product of two small matrices, one along x and one along
y. Intensity is split into R factors by a quadrature, ``exp(-(a - b)² / 2s²) = sum_k f_k(a) f_k(b)`` with ``f_k`` a
Gaussian of width ``s / sqrt(2)`` around node ``c_k`` and nodes at equal distance ``h``; its relative error is
``2 exp(-pi² s² / 2h²)``, chosen by the tolerance. So the appearance kernel is ``sum_k f_k(I) * Gy (f_k(I) * u) Gx``:
per update a handful of batched matrix products over all crops, without a loop over pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.windows import LEAST_SIGMA
from kemr_lightning.refinement.parameters import kernels_of
from kemr_lightning.refinement.unary import clipped_logit

BUFFER = {"cpu": 4_000_000, "cuda": 64_000_000}
"""Floats in one intermediate tensor (pixels x factors); bounds the memory whatever the size of a crop."""

PADDED_SHARE = {"cpu": 1.3, "cuda": 3.0}
"""Maximum number of pixels of a padded batch per pixel of its crops: a CPU pays for padding, a GPU for launches."""


@dataclass(frozen=True)
class _Batch:
    """Crops of similar size, padded to the same size.

    Attributes:
        index: Which crops.
        levels: ``(B, H, W)`` int64 intensities.
        z0: ``(B, H, W)`` logits of the initial probabilities.
        valid: ``(B, H, W)`` float32, 1 on pixels of the crop and 0 on padding.
    """

    index: list[int]
    levels: Tensor
    z0: Tensor
    valid: Tensor


class _Bounds(NamedTuple):
    """Extremes of the parameters of all crops.

    Attributes:
        narrowest: Minimum sigma of intensity: decides how many factors are needed.
        appearance: Maximum weight of the appearance kernel.
        smoothness: Maximum weight of the smoothness kernel.
    """

    narrowest: float
    appearance: float
    smoothness: float


class _Filter(NamedTuple):
    """A Gaussian kernel on the crops of a batch.

    Attributes:
        weight: ``(B, 1, 1)`` weights of its message.
        along_y: ``(B, H, H)`` Gaussian of the distance between rows.
        along_x: ``(B, W, W)`` Gaussian of the distance between columns.
        factors: ``(B, R, 256)``, see `_intensity_factors`; None for a kernel of the positions alone.
    """

    weight: Tensor
    along_y: Tensor
    along_x: Tensor
    factors: Tensor | None


def refine_batched(crops: Crops, parameters: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Refine crops. Differentiable in ``parameters`` and in ``crops.prob``.

    Args:
        crops: The crops, on any device.
        parameters: ``(N, 6)``, columns as in `PARAMETER_NAMES`; may require gradients.
        iterations: Mean-field updates.
        tolerance: Intended largest difference of a probability from the exact result.

    Returns:
        ``(P,)`` float32 refined probabilities on the crops' device.
    """
    table = parameters.to(crops.prob.device, torch.float32)
    table = torch.cat([table[:, :3].clamp(min=LEAST_SIGMA), table[:, 3:]], dim=1)
    appearance, smoothness, _ = kernels_of(table.unbind(dim=1))
    # The only values that the host needs, in one copy.
    extremes = [appearance.sigma_intensity.amin(), appearance.weight.amax(), smoothness.weight.amax()]
    bounds = _Bounds(*torch.stack(extremes).detach().tolist())
    spacing = node_spacing(tolerance, bounds.appearance)
    z0 = clipped_logit(crops.prob)
    pieces: dict[int, Tensor] = {}
    for batch in _batches(crops, z0):
        z = _mean_field(batch, table[batch.index], iterations, spacing, bounds)
        refined = torch.sigmoid(z)
        for row, which in enumerate(batch.index):
            height, width = crops.sizes[which]
            pieces[which] = refined[row, :height, :width].reshape(-1)
    return torch.cat([pieces[which] for which in range(len(crops))])


def node_spacing(tolerance: float, w1: float) -> float:
    """Distance between the quadrature's nodes in units of the sigma of intensity.

    The filter's relative error is multiplied by w1, and amplified by the mean field where pixels are undecided. A
    twentieth of the tolerance per unit of w1 keeps the result within the tolerance on the tests' parameter range.
    """
    error = min(0.01, max(1e-7, tolerance / (20 * max(1.0, w1))))
    return math.pi / math.sqrt(2 * math.log(2 / error))


def _batches(crops: Crops, z0: Tensor) -> Iterator[_Batch]:
    """Group crops of similar size, largest first, and pad them."""
    device = crops.prob.device
    kind = _device_kind(crops.prob)
    flat_levels, flat_z0 = crops.intensity.split_with_sizes(crops.areas), z0.split_with_sizes(crops.areas)
    waiting = sorted(range(len(crops)), key=lambda i: (-crops.sizes[i][0], -crops.sizes[i][1], i))
    while waiting:
        group, height, width, pixels = [waiting[0]], *crops.sizes[waiting[0]], crops.areas[waiting[0]]
        for which in waiting[1:]:
            grown = max(width, crops.sizes[which][1])
            padded = (len(group) + 1) * height * grown
            if padded <= PADDED_SHARE[kind] * (pixels + crops.areas[which]) and padded <= BUFFER[kind]:
                group.append(which)
                width, pixels = grown, pixels + crops.areas[which]
        taken = set(group)
        waiting = [which for which in waiting if which not in taken]
        sizes = torch.tensor([crops.sizes[which] for which in group]).to(device, non_blocking=True)
        rows = torch.arange(height, device=device) < sizes[:, :1]
        columns = torch.arange(width, device=device) < sizes[:, 1:]
        valid = rows[:, :, None] & columns[:, None, :]
        levels = torch.zeros(valid.shape, dtype=torch.int64, device=device)
        levels = levels.masked_scatter(valid, torch.cat([flat_levels[which] for which in group]).long())
        logits = torch.zeros(valid.shape, device=device).masked_scatter(valid, torch.cat([flat_z0[i] for i in group]))
        yield _Batch(group, levels, logits, valid.float())


def _mean_field(batch: _Batch, table: Tensor, iterations: int, spacing: float, bounds: _Bounds) -> Tensor:
    """``(B, H, W)`` logits after the updates."""
    appearance, smoothness, temperature = kernels_of(table.unbind(dim=1))
    z0 = batch.z0 / temperature[:, None, None]
    height, width = z0.shape[1:]
    filters: list[_Filter] = []
    if iterations and (bounds.appearance > 0 or table.requires_grad):
        factors = _intensity_factors(appearance.sigma_intensity, spacing, bounds.narrowest)
        along_y, along_x = _gaussian(height, appearance.sigma), _gaussian(width, appearance.sigma)
        filters.append(_Filter(appearance.weight[:, None, None], along_y, along_x, factors))
    if iterations and (bounds.smoothness > 0 or table.requires_grad):
        along_y, along_x = _gaussian(height, smoothness.sigma), _gaussian(width, smoothness.sigma)
        filters.append(_Filter(smoothness.weight[:, None, None], along_y, along_x, None))
    norms = [batch.valid * (_apply(one, batch.valid, batch.levels) + 1e-20).rsqrt() for one in filters]
    z = z0
    for _ in range(iterations):
        difference = torch.tanh(z / 2)
        z = z0
        for one, norm in zip(filters, norms, strict=True):
            z = z + one.weight * norm * _apply(one, norm * difference, batch.levels)
    return z


def _gaussian(length: int, sigma: Tensor) -> Tensor:
    """``(B, length, length)`` Gaussian of the distance between positions."""
    position = torch.arange(length, device=sigma.device, dtype=torch.float32)
    square = (position[:, None] - position[None, :]) ** 2
    return torch.exp(-square / (2 * sigma[:, None, None] ** 2))


def _intensity_factors(sigma: Tensor, spacing: float, narrowest: float) -> Tensor:
    """``(B, R, 256)`` values of the quadrature's factors at the 256 levels.

    The nodes follow sigma without its gradient: the sum approximates the kernel for every sigma nearby, so its
    derivative at fixed nodes is the kernel's.
    """
    step = spacing * sigma.detach()
    beyond = 2.5
    count = math.ceil((255 / narrowest + 2 * beyond) / spacing) + 1
    offset = torch.arange(count, device=sigma.device) - (count - 1) / 2
    nodes = 127.5 + offset[None, :] * step[:, None]
    distance = torch.arange(256, device=sigma.device)[None, None, :] - nodes[:, :, None]
    scale = (step / sigma * math.sqrt(2 / math.pi)).sqrt()
    return scale[:, None, None] * torch.exp(-((distance / sigma[:, None, None]) ** 2))


def _apply(kernel: _Filter, values: Tensor, levels: Tensor) -> Tensor:
    """``K values`` for ``(B, H, W)`` values and levels, a few factors at a time to bound the memory."""
    _, along_y, along_x, factors = kernel
    if factors is None:
        return along_y @ values @ along_x
    step = max(1, BUFFER[_device_kind(values)] // values.numel())
    total = torch.zeros_like(values)
    for first in range(0, factors.shape[1], step):
        part = factors[:, first : first + step]
        if torch.is_grad_enabled() and (values.requires_grad or part.requires_grad):
            # Computed again in the backward pass: kept, the factors of every update would take gigabytes.
            total = total + checkpoint(_apply_factors, values, along_y, along_x, levels, part, use_reentrant=False)
        else:
            total += _apply_factors(values, along_y, along_x, levels, part)
    return total


def _device_kind(tensor: Tensor) -> str:
    return "cuda" if tensor.device.type == "cuda" else "cpu"


def _apply_factors(values: Tensor, along_y: Tensor, along_x: Tensor, levels: Tensor, factors: Tensor) -> Tensor:
    """The sum over some of the factors."""
    batch, count, _ = factors.shape
    height, width = values.shape[1:]
    at_pixels = torch.gather(factors, 2, levels.reshape(batch, 1, -1).expand(-1, count, -1)).view(
        -1, count, height, width
    )
    spread = along_y[:, None] @ (at_pixels * values[:, None]) @ along_x[:, None]
    return (at_pixels * spread).sum(dim=1)
