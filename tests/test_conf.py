"""Every experiment composes, and those of the paper resolve to the paper's settings."""

from __future__ import annotations

import warnings

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import CONF, compose

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_resolves(experiment: str) -> None:
    config = compose(f"experiment={experiment}", "paths.run_dir=somewhere")
    OmegaConf.resolve(config)
    assert OmegaConf.missing_keys(config) <= {
        "data.root",
        *(f"data.sources.{name}.root" for name in ("gband", "qband", "dapi")),
    }
    assert config.name == experiment
    for node in (config.model, config.optimizer, config.scheduler, config.data, config.trainer):
        hydra.utils.get_object(node._target_)  # raises if there is no such thing


@pytest.mark.parametrize("task", sorted(path.stem for path in (CONF / "task").glob("*.yaml")))
def test_every_task_names_a_function(task: str) -> None:
    config = compose(f"task={task}")
    assert config.task.name == task
    assert callable(hydra.utils.get_method(config.task.function))


@pytest.mark.parametrize(
    "group",
    [
        "model",
        "data",
        "augmentation",
        "metric",
        "refine",
        "callbacks",
        "logger",
        "optimizer",
        "scheduler",
        "trainer",
        "budget",
    ],
)
def test_every_option_of_a_group_composes(group: str) -> None:
    for path in (CONF / group).glob("*.yaml"):
        OmegaConf.resolve(compose(f"{group}={path.stem}", "paths.run_dir=somewhere"))


R101 = [name for name in EXPERIMENTS if name.endswith("_r101")]


@pytest.mark.parametrize("experiment", R101)
def test_paper_settings(experiment: str) -> None:
    config = compose(f"experiment={experiment}")
    assert config.trainer.max_epochs == 100
    assert config.data.batch_size == 2
    assert list(config.data.resize) == [1280, 1024]
    assert config.data.augmentation.crop_size is None  # whole images
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = hydra.utils.instantiate(config.optimizer)(weights)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert optimizer.param_groups[0]["weight_decay"] == 1e-4
    assert list(config.scheduler.milestones) == [18_000, 24_000]
    assert (config.scheduler.gamma, config.scheduler.warmup_steps) == (0.1, 0)
    assert (config.model.backbone.name, config.model.weights) == ("resnet101", "imagenet")
    assert config.callbacks.ema is None
    assert config.trainer.gradient_clip_val is None
    if experiment in ("kemr_r101", "cascade_mask_rcnn_r101"):
        heads = config.model.heads
        assert (heads.variant, list(heads.iou_thresholds)) == ("mmdetection", [0.5, 0.6, 0.7])
        assert [list(w) for w in heads.box_weights] == [[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]]


@pytest.mark.parametrize(
    ("scheduler", "first", "second"),
    [("multistep", 18_000, 24_000), ("multistep_160k_200k", 160_000, 200_000), ("multistep_18k_240k", 18_000, 240_000)],
)
def test_paper_schedules(scheduler: str, first: int, second: int) -> None:
    config = compose("experiment=kemr_r101", f"scheduler={scheduler}")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = hydra.utils.instantiate(config.scheduler)(optimizer, 36_000)
    (factor,) = schedule.lr_lambdas
    assert [factor(step) for step in (0, first - 1, first, second - 1, second)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("experiment", ["kemr_tiny", "kemr_r101", "demo"])
def test_several_processes_train_as_long_as_one(experiment: str) -> None:
    alone, together = (
        OmegaConf.to_container(compose(f"experiment={experiment}", trainer).trainer, resolve=False)
        for trainer in ("trainer=default", "trainer=ddp")
    )
    assert isinstance(alone, dict)
    assert isinstance(together, dict)
    assert {key: together[key] for key in alone if key != "devices"} == {
        k: v for k, v in alone.items() if k != "devices"
    }


def test_slurm_launcher_composes() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with warnings.catch_warnings(), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        warnings.simplefilter("error")
        config = hydra.compose("config", ["hydra/launcher=slurm", "name=mine"], return_hydra_config=True)
    assert config.hydra.launcher._target_.endswith("SlurmLauncher")
    assert config.hydra.launcher.name == "mine"
    assert config.hydra.launcher.max_num_timeout > 0


def test_only_kemr_refines() -> None:
    for experiment in R101 + [name.replace("_r101", "_tiny") for name in R101]:
        config = compose(f"experiment={experiment}")
        assert (config.refine is not None) == experiment.startswith("kemr")


def test_kemr_is_cascade_mask_rcnn_with_refinement() -> None:
    for size in ("r101", "tiny"):
        kemr = OmegaConf.to_container(compose(f"experiment=kemr_{size}"))
        cascade = OmegaConf.to_container(compose(f"experiment=cascade_mask_rcnn_{size}"))
        for key in ("model", "data", "optimizer", "scheduler", "trainer", "seed"):
            assert kemr[key] == cascade[key]  # type: ignore[index,call-overload]


def test_command_line_wins_over_the_experiment() -> None:
    config = compose("experiment=kemr_r101", "refine=none", "trainer.max_steps=2", "data.batch_size=1")
    assert (config.refine, config.trainer.max_steps, config.data.batch_size) == (None, 2, 1)
