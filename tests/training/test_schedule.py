"""Learning rates by numbers."""

from __future__ import annotations

import math

import pytest
import torch

from kemr_lightning.training.schedule import multistep, warmup_cosine


def rates(schedule, steps: int, lr: float = 1.0, **settings: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = schedule(optimizer, steps, **settings)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def test_paper_schedule():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    factor = multistep(optimizer, 36_000).lr_lambdas[0]
    for step, rate in ((0, 1.0), (17_999, 1.0), (18_000, 0.1), (23_999, 0.1), (24_000, 0.01), (35_999, 0.01)):
        assert factor(step) == pytest.approx(rate)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_multistep_with_warm_up():
    assert rates(multistep, 6, 2.0, milestones=(4,), gamma=0.5, warmup_steps=4) == [0.5, 1.0, 1.5, 2.0, 1.0, 1.0]


def test_warm_up_and_cosine():
    found = rates(warmup_cosine, 104, warmup_fraction=4 / 104, final_fraction=0.0)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    for step in range(4, 104):
        assert found[step] == pytest.approx(0.5 * (1 + math.cos(math.pi * (step - 4) / 100)))


def test_cosine_ends_at_its_last_fraction():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    factor = warmup_cosine(optimizer, 100, final_fraction=0.01).lr_lambdas[0]
    assert factor(100) == pytest.approx(0.01)
    assert factor(1000) == pytest.approx(0.01)
    assert warmup_cosine(optimizer, 1).lr_lambdas[0](0) == 1.0
