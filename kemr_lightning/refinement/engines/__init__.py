"""Engines: ways to run the same mean field. All take and give `Crops`.

- ``torch``: ours. A compiled kernel on CPU, tensor operations on CUDA and where gradients are asked for.
- ``pydensecrf``: the reference library (permutohedral lattice), an approximation of the same update.
- ``exact``: float64 brute force, quadratic in the number of pixels; the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.automatic import refine_torch
from kemr_lightning.refinement.engines.batched import refine_batched
from kemr_lightning.refinement.engines.exact import refine_exact
from kemr_lightning.refinement.engines.reference import refine_pydensecrf

Engine = Callable[[Crops, Tensor, int, float], Tensor]
"""``engine(crops, parameters (N, 6), iterations, tolerance)`` -> ``(P,)`` float32 refined probabilities."""

ENGINES: dict[str, Engine] = {"torch": refine_torch, "pydensecrf": refine_pydensecrf, "exact": refine_exact}

__all__ = ["ENGINES", "Engine", "refine_batched", "refine_exact", "refine_pydensecrf", "refine_torch"]
