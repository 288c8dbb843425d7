"""Inference times measured side by side: on one machine, the same images, one system after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from kemr_lightning.core.instances import Instances, Sample

Predict = Callable[[Sample], Instances]
Refine = Callable[[Tensor, Instances], Instances]


@torch.no_grad()
def measure(
    models: Mapping[str, tuple[Predict, Refine | None]], samples: Sequence[Sample], warm_up: int = 1
) -> dict[str, tuple[float, float | None]]:
    """Time every model on every image, the models taking turns so that a busy machine is as busy for all.

    Args:
        models: Name -> prediction and refinement.
        samples: The images, on the models' device.
        warm_up: Images that are predicted before the clock starts.

    Returns:
        Name -> median seconds per image of the model, and of the refinement or None without.
    """
    spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in models}
    for number, sample in enumerate([*samples[:warm_up], *samples]):
        for name, (predict, refine) in models.items():
            start = _now(sample)
            instances = predict(sample)
            middle = _now(sample)
            if refine is not None:
                refine(sample.image, instances)
            end = _now(sample)
            if number >= warm_up:
                spent[name][0].append(middle - start)
                spent[name][1].append(end - middle)
    return {
        name: (statistics.median(found), statistics.median(refined) if models[name][1] is not None else None)
        for name, (found, refined) in spent.items()
    }


def _now(sample: Sample) -> float:
    if sample.image.device.type == "cuda":
        torch.cuda.synchronize(sample.image.device)
    return time.perf_counter()
