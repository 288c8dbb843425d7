"""A configuration of an earlier version reads like one of today's."""

from __future__ import annotations

import copy
from typing import Any

import hydra
import pytest

from kemr_lightning.core.config_migration import MODULES, upgraded
from tests.conftest import compose

METRIC = {"_target_": "kemr_lightning.metrics.segmentation.InstanceSegmentationMetric", "threshold": 0.4}
OLD: dict[str, Any] = {
    "seed": 0,
    "scheduler": {"_target_": "kemr_lightning.schedule.warmup_cosine", "_partial_": True, "final_fraction": 0.01},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.003},
    "callbacks": {
        "refinement": {
            "_target_": "kemr_lightning.callbacks.refinement.RefinementCallback",
            "refiner": {"_target_": "kemr_lightning.refinement.Refiner.from_values", "w1": 3.0},
            "directory": "run",
            "metric": METRIC,
        },
        "checkpoint": {"_target_": "kemr_lightning.callbacks.checkpoint.CheckpointCallback", "filename": "best"},
        "knowledge": {"_target_": "kemr_lightning.callbacks.knowledge.KnowledgeCallback"},
    },
    "trainer": {"plugins": [{"_target_": "kemr_lightning.distributed.BatchNormSync"}], "max_steps": 5},
}
NEW: dict[str, Any] = {
    "seed": 0,
    "scheduler": {
        "_target_": "kemr_lightning.training.schedule.warmup_cosine",
        "_partial_": True,
        "final_fraction": 0.01,
    },
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.003},
    "callbacks": {
        "refinement": {"_target_": "kemr_lightning.callbacks.refinement.RefinementCallback", "directory": "run"},
        "checkpoint": {"_target_": "kemr_lightning.callbacks.save_checkpoints.CheckpointCallback", "filename": "best"},
        "knowledge": {"_target_": "kemr_lightning.callbacks.keep_knowledge.KnowledgeCallback"},
    },
    "trainer": {"plugins": [{"_target_": "kemr_lightning.core.distributed.BatchNormSync"}], "max_steps": 5},
    "metric": METRIC,
}


def test_names_and_places_of_today() -> None:
    before = copy.deepcopy(OLD)
    assert upgraded(OLD) == NEW
    assert before == OLD  # it was not changed itself
    assert upgraded(NEW) == NEW


def test_a_name_that_only_begins_alike_stays() -> None:
    config = {"a": {"_target_": "kemr_lightning.schedules.own"}, "b": "kemr_lightning.schedule.multistep", "c": None}
    assert upgraded(config) == config


def test_the_place_of_today_counts() -> None:
    both = {"metric": {"threshold": 0.6}, "callbacks": {"refinement": {"metric": {"threshold": 0.4}}}}
    assert upgraded(both) == {"metric": {"threshold": 0.6}, "callbacks": {"refinement": {}}}
    assert upgraded({"callbacks": None}) == {"callbacks": None}


@pytest.mark.parametrize("module", sorted(set(MODULES.values())))
def test_every_new_name_exists(module: str) -> None:
    assert hydra.utils.get_object(module).__name__ == module


def test_nothing_in_todays_configuration_is_renamed() -> None:
    from omegaconf import OmegaConf

    for experiment in ("kemr_tiny", "blendmask_r101"):
        plain = OmegaConf.to_container(compose(f"experiment={experiment}"))
        assert isinstance(plain, dict)
        assert upgraded({str(key): value for key, value in plain.items()}) == plain
