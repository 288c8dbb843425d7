"""Mean field on CPU, compiled: a bilateral grid per crop, and updates of what has changed.

The appearance kernel is a product of three Gaussians (x, y, intensity), each written with a window over four or six
nodes of a coarse grid and blur taps between them (`windows`): values are spread onto a three-dimensional grid, the grid
is blurred along each axis and read back. The cost per pixel does not depend on the sigmas, that of the cells does.

The mean field is linear between updates, so only the *change* of ``tanh(z / 2)`` since it was last spread goes through
the filter. From the second update on that is the rim of the instance: the grid shrinks to the rim's box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.bilateral_grid import Float32, Interpolation
from kemr_lightning.refinement.engines.mean_field import Group, Settings, refine_group
from kemr_lightning.refinement.engines.windows import (
    LEAST_SIGMA,
    Layout,
    blur_taps,
    for_iterations,
    for_roughness,
    layout_for,
    most_rough,
    nodes,
    stricter,
)
from kemr_lightning.refinement.parameters import Kernels, kernels_of
from kemr_lightning.refinement.unary import clipped_logit_of_quotient

MOST_CELLS = 12_000_000
"""Maximum number of cells (float32) of the grid; a crop that needs more is filtered in bands of rows."""


def refine_compiled(crops: Crops, parameters: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, list[int]]:
    """Refine crops on CPU, without gradients.

    Args:
        crops: The crops, on CPU.
        parameters: ``(N, 6)``, columns as in `PARAMETER_NAMES`.
        iterations: Mean-field updates.
        tolerance: Intended largest difference of a probability from the exact result.

    Returns:
        ``(P,)`` float32 refined probabilities, and the crops whose probabilities are not filled in, because the windows
        cannot reach their tolerance.
    """
    waiting = [
        _Work(
            key,
            for_iterations(tolerance, iterations),
            most_rough(key.appearance.weight, key.smoothness.weight),
            members,
        )
        for key, members in _groups(parameters).items()
    ]
    z0 = _unary(crops, parameters)
    sizes = np.array(crops.sizes, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]])
    refined, levels = np.empty_like(z0), crops.intensity.numpy()
    left: list[int] = []
    while waiting:
        work = waiting.pop()
        layout = layout_for(work.tolerance, work.kernels.appearance.weight, work.kernels.smoothness.weight)
        if layout is None:
            left += work.members
            continue
        group = Group(levels, z0, refined, starts[work.members], sizes[work.members])
        roughness = np.zeros(len(work.members))
        refine_group(group, _interpolation(work, layout, group), _settings(work, iterations), roughness)
        again: dict[float, list[int]] = {}
        for which, rough in zip(work.members, roughness.tolist(), strict=True):
            if rough > work.most_rough:
                again.setdefault(for_roughness(work.tolerance, rough), []).append(which)
        waiting += [
            replace(work, tolerance=finer, most_rough=math.inf, members=rough) for finer, rough in again.items()
        ]
    return torch.from_numpy(refined), sorted(left)


@dataclass(frozen=True)
class _Work:
    """Crops that share their kernels, still to be refined.

    Attributes:
        kernels: Their kernels, with numbers; the temperature is in the unary already.
        tolerance: The tolerance to work with.
        most_rough: Roughness above which a crop needs a finer grid than the tolerance alone requires.
        members: Which crops.
    """

    kernels: Kernels[float]
    tolerance: float
    most_rough: float
    members: list[int]


def _unary(crops: Crops, parameters: Tensor) -> Float32:
    """``(P,)`` logits of the initial probabilities, divided by the temperature."""
    logit = clipped_logit_of_quotient(crops.prob)
    temperature = kernels_of(parameters.detach().unbind(dim=1)).temperature
    if bool((temperature != 1).any()):
        logit /= temperature.float().repeat_interleave(torch.tensor(crops.areas))
    return logit.numpy()


def _groups(parameters: Tensor) -> dict[Kernels[float], list[int]]:
    """Crops by the kernels that they share, whatever their temperature (which is given as 1)."""
    groups: dict[Kernels[float], list[int]] = {}
    for which, row in enumerate(parameters.detach().double().tolist()):
        appearance, smoothness, _ = kernels_of(row)
        sigma, sigma_intensity = max(appearance.sigma, LEAST_SIGMA), max(appearance.sigma_intensity, LEAST_SIGMA)
        if sigma == LEAST_SIGMA:
            # Space joins the pixel to no other: intensity does not matter, and a fine grid would only take memory.
            sigma_intensity = 255.0
        key = Kernels(
            appearance._replace(sigma=sigma, sigma_intensity=sigma_intensity),
            smoothness._replace(sigma=max(smoothness.sigma, LEAST_SIGMA)),
            1.0,
        )
        groups.setdefault(key, []).append(which)
    return groups


def _interpolation(work: _Work, layout: Layout, group: Group) -> Interpolation:
    """How the appearance kernel is written on grids of a layout, for the largest of a group's crops."""
    appearance, longest = work.kernels.appearance, int(group.sizes.max())
    return Interpolation(
        nodes(longest, appearance.sigma, layout),
        nodes(256, appearance.sigma_intensity, layout, vectors=True),
        blur_taps(layout)[0],
    )


def _settings(work: _Work, iterations: int) -> Settings:
    """What is not spread, or not read back, moves a logit by roughly the tolerance at most."""
    appearance, smoothness, _ = work.kernels
    w1, w2 = appearance.weight, smoothness.weight
    distance = np.arange(2 * math.ceil(2 * smoothness.sigma) + 1)
    return Settings(
        appearance_weight=w1,
        smoothness_weight=w2,
        smoothing=np.exp(-(distance**2) / (2 * smoothness.sigma**2)).astype(np.float32),
        iterations=iterations,
        least_change=1.5 * stricter(work.tolerance) / (max(w1 + w2, 1.0) * (1 + (w1 / 8) ** 2)),
        reach=math.ceil(appearance.sigma * math.sqrt(2 * math.log(max(w1 / (8 * work.tolerance), 8.0)))),
        far=math.ceil(4 * appearance.sigma),
        most_cells=MOST_CELLS,
        most_rough=work.most_rough,
    )
