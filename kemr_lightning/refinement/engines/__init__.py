"""Engines: ways to compute the same mean field. A new one is a file here and an entry of `ENGINES`.

- ``torch``: ours. A compiled kernel on CPU, tensor operations on CUDA and where gradients are needed.
- ``pydensecrf``: the reference library (permutohedral lattice), an approximation of the same update.
- ``exact``: float64 brute force, quadratic in the number of pixels; the reference in tests.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.automatic import refine_torch
from kemr_lightning.refinement.engines.exact import refine_exact
from kemr_lightning.refinement.engines.pydensecrf_library import refine_pydensecrf

Engine = Callable[[Crops, Tensor, int, float], Tensor]
"""``engine(crops, parameters, iterations, tolerance)`` -> ``(P,)`` float32 refined probabilities on the crops' device.

``parameters`` is ``(N, 6)`` float32, one per crop, which `kernels_of` unpacks. ``tolerance`` is the intended largest
difference of a probability from the exact mean field; an engine may ignore it.
"""

ENGINES: dict[str, Engine] = {"torch": refine_torch, "pydensecrf": refine_pydensecrf, "exact": refine_exact}
"""All engines by name. Programs may add their own: ``ENGINES["mine"] = function``."""

DEFAULT_ENGINE = "torch"
