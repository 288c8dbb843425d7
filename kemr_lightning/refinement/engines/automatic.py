"""The ``torch`` engine: the compiled kernel where it can run, tensor operations elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.batched import refine_batched

log = logging.getLogger(__name__)


def refine_torch(crops: Crops, parameters: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Refine crops on any device; differentiable in ``parameters`` and in ``crops.prob``.

    The compiled kernel (`compiled`) runs on CPU without gradients, except where numba is missing or its windows cannot
    reach the tolerance for a crop; tensor operations (`batched`) do everything else. Both approximate the same mean
    field within the tolerance.

    Args:
        crops: The crops.
        parameters: ``(N, 6)``, columns as in `PARAMETER_NAMES`.
        iterations: Mean-field updates.
        tolerance: Intended largest difference of a probability from the exact result.

    Returns:
        ``(P,)`` float32 refined probabilities on the crops' device.
    """
    wants_gradient = torch.is_grad_enabled() and (parameters.requires_grad or crops.prob.requires_grad)
    if crops.prob.device.type == "cpu" and not wants_gradient:
        compiled = _compiled()
        if compiled is not None:
            refined, left = compiled(crops, parameters, iterations, tolerance)
            parts = refined.split_with_sizes(crops.areas)
            for which in left:
                # One by one, because a crop's result must not depend on the other crops.
                parts[which].copy_(refine_batched(crops.select([which]), parameters[[which]], iterations, tolerance))
            return refined
    return refine_batched(crops, parameters, iterations, tolerance)


@lru_cache(maxsize=1)
def _compiled() -> Callable[[Crops, Tensor, int, float], tuple[Tensor, list[int]]] | None:
    """`refine_compiled`, or None without numba; imported when first needed, because numba takes a second to import."""
    try:
        from kemr_lightning.refinement.engines.compiled import refine_compiled
    except ImportError as error:
        log.warning("numba is not installed (%s): refinement on CPU takes about ten times as long", error)
        return None
    return refine_compiled
