"""The keys of the top level, the metric and the refinement: what they may be."""

from __future__ import annotations

import pytest

from kemr_lightning.assembly.schema.validate import wrong_settings
from tests.assembly.schema.helpers import settings


@pytest.mark.parametrize(
    "overrides",
    [
        "ckpt=last",
        "init=file.ckpt views=8",
        "paths.store=null",
        "refine=none",
        "refine.iterations=0",
        "task=compare runs=[a,b]",
        "task=tune",
        "task=learn",
        "metric.ia_score=0",
    ],
)
def test_what_is_possible(overrides: str) -> None:
    assert not wrong_settings(settings(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        "seed=-1",
        "seed=4294967296",
        "seed=0.5",
        "views=0",
        "views=9",
        "name=5",
        "name=true",
        "ckpt=5",
        "init=1e3",
        "knowledge=[a]",
        "paths.runs=null",
        "refine.w1=much",
        "refine.iterations=1.5",
        "refine.sigma_alpha=nan",
        "+refine.sigma=3",
        "metric.threshold=0",
        "metric.ia_iou=2",
        "task=compare runs=a",
        "task=compare experiments=kemr_tiny",
        "+refine.engines=torch",
    ],
)
def test_what_is_not(overrides: str) -> None:
    key = overrides.split()[-1].lstrip("+").split("=")[0]
    assert key in [each.key for each in wrong_settings(settings(overrides))]  # and what refers to it
