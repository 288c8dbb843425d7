"""Models take turns, and the first image, which pays for all, is not timed."""

from __future__ import annotations

import time

import torch

from kemr_lightning.comparison.measure import measure
from kemr_lightning.core.instances import Instances, Sample


def test_models_take_turns_and_are_timed_apart() -> None:
    order: list[str] = []
    samples = [Sample(torch.zeros((4, 4), dtype=torch.uint8), f"{i}.png", i) for i in (1, 2)]

    def slow(sample: Sample) -> Instances:
        order.append(f"slow {sample.image_id}")
        time.sleep(0.02)
        return Instances.empty((4, 4))

    def slower_at_first(sample: Sample) -> Instances:
        order.append(f"other {sample.image_id}")
        time.sleep(2.0 if len(order) == 2 else 0.0)
        return Instances.empty((4, 4))

    def refine(image: torch.Tensor, instances: Instances) -> Instances:
        time.sleep(0.03)
        return instances

    times = measure({"slow": (slow, None), "other": (slower_at_first, refine)}, samples)
    assert order == ["slow 1", "other 1", "slow 1", "other 1", "slow 2", "other 2"]
    assert times["slow"][0] > 0.02
    assert times["slow"][1] is None
    assert times["other"][0] < 1.0
    assert (times["other"][1] or 0.0) > 0.03
