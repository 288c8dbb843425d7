"""``task=train``: fit, then test with the best checkpoint."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from omegaconf import DictConfig

from kemr_lightning.assembly.annotation_notices import found_key, tell_of_limits, tell_of_regions
from kemr_lightning.assembly.build import (
    DataModule,
    build_data,
    build_metric,
    build_module,
    build_trainer,
    check_monitors,
    logging_closed,
)
from kemr_lightning.assembly.checkpoints import initial_weights
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.assembly.resuming import State, deciding_settings, state_to_resume
from kemr_lightning.assembly.settings import given_overrides
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import key_of, shell_word
from kemr_lightning.data.input_scale import AUTO
from kemr_lightning.tasks.closing import report
from kemr_lightning.tasks.start import start
from kemr_lightning.training.checkpoint import init_weights, load_weights, read_checkpoint
from kemr_lightning.training.module import DivergedError, SegmentationModule

logger = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train a model, test it and write everything into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` and ``resume`` resume a training, ``init`` starts one from given
            weights.

    Returns:
        The best validation figure of the run (what its checkpoints are chosen by), or None if it was never validated.

    Raises:
        UserError: Something in the configuration or the data has to be fixed; nothing was trained.
    """
    state = state_to_resume(config)  # first: a state that does not fit leaves the directory as it was
    directory = start(config)
    refiner = build_refiner(config)
    initial = initial_weights(config)
    if state is not None:
        earlier = state.content["hyper_parameters"]
    else:
        earlier = {} if initial is None else read_checkpoint(initial)["hyper_parameters"]
    settings = deciding_settings(config)  # as given: the scale is taken from the weights each time
    if config.init is not None:
        _take_scale(config, earlier)
    data = build_data(config, "fit", earlier_names=earlier.get("label_names", ()))
    data.setup("test")
    module = build_module(config, data.label_names, pretrained=state is None and initial is None)
    module.settings = settings
    tell_of_regions(data)
    tell_of_limits(config, data, module.detector.max_detections, found_key(config))
    if state is not None:
        take_up(module, state)
    elif initial is not None:
        init_weights(module, initial)
    with logging_closed():
        trainer = build_trainer(config, refiner, build_metric(config))
        check_monitors(trainer, config)
        fit(trainer, module, data, None if state is None else state.path, automatic=config.resume is not None)
        best = load_best(trainer, module)
        trainer.test(module, datamodule=data, verbose=False)
    report(config, directory, best)
    return _best_score(trainer)


def _take_scale(config: DictConfig, earlier: Mapping[str, Any]) -> None:
    """Scale images as they were for the weights that a training starts from, unless the command line says how."""
    given = {key_of(word) for word in given_overrides()}
    if earlier.get("input_width") is None or given & {"data.scale", "data.resize"} or config.data.scale is not None:
        return
    logger.info("data.scale=auto: the weights of init=%s are for chromosomes of one width", config.init)
    config.data.scale = AUTO
    config.data.resize = None


def take_up(module: SegmentationModule, state: State) -> None:
    """Load the weights to resume from, so that a wrong checkpoint fails before anything that takes time.

    Args:
        module: What is trained.
        state: A checkpoint of its training.

    Raises:
        UserError: The checkpoint is of other classes or of another model.
    """
    names = list(state.content["hyper_parameters"]["label_names"])
    if names != module.label_names:
        raise UserError(
            f"ckpt={state.path} knows the classes {names}, the data have {module.label_names}. Use the data it was "
            "trained on, or init=FILE to start a new training from its weights"
        )
    load_weights(module, state.content["state_dict"], state.path)


def fit(
    trainer: pl.Trainer, module: SegmentationModule, data: DataModule, resume: Path | None, automatic: bool = False
) -> None:
    """Fit, and say how to resume when it is interrupted.

    Args:
        trainer: The trainer.
        module: What it trains.
        data: With what.
        resume: The checkpoint to resume from.
        automatic: Whether the same command would resume it, without ``ckpt``.

    Raises:
        UserError: The training diverges, or a setting of the data is wrong.
    """
    # Loaders check their settings when they are built; callbacks and the module have settings of other groups.
    names = inspect.signature(type(data)).parameters
    try:
        with settings_under("", **{name: f"data.{name}" for name in names}):
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except DivergedError as error:
        raise UserError(f"{error} (optimizer.lr, scheduler.warmup_fraction, callbacks.finite_loss.skip)") from error
    except (KeyboardInterrupt, SystemExit):
        last = getattr(trainer.checkpoint_callback, "last_model_path", "")
        again = "The same command" if automatic else f"The same command with {shell_word('ckpt', last)}"
        how = f"{again} resumes it" if last else "No checkpoint was saved yet"
        logger.warning("interrupted at step %d. %s", trainer.global_step, how)
        raise


def load_best(trainer: pl.Trainer, module: SegmentationModule) -> Path | None:
    """Load the best checkpoint's weights into the module.

    Args:
        trainer: It has just trained.
        module: What it trained.

    Returns:
        The checkpoint, or None if the run was too short to save one; the module then keeps its current weights.
    """
    callback = trainer.checkpoint_callback
    best = Path(getattr(callback, "best_model_path", "") or "")
    if not best.is_file():
        logger.warning("no checkpoint was saved: the current weights are tested")
        return None
    load_weights(module, read_checkpoint(best)["state_dict"], best)
    return best


def _best_score(trainer: pl.Trainer) -> float | None:
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return None if score is None else float(score)
