"""``task=tune``: Bayesian search over the CRF's parameters, in process, on stored predictions."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from omegaconf import DictConfig

from kemr_lightning.assembly.build import (
    build_data,
    build_loggers,
    build_metric,
    logging_closed,
    trained_module,
    whole_samples,
)
from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.assembly.settings import plain, read_settings
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import override, shell_word
from kemr_lightning.core.run_directory import KNOWLEDGE
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tasks.start import start
from kemr_lightning.training.initial_predictions import initial_predictor, tell_of_store
from kemr_lightning.training.provenance import provenance
from kemr_lightning.training.store import model_digest
from kemr_lightning.tuning.ranges import read_ranges
from kemr_lightning.tuning.scoring import ScoredImages, Scorer
from kemr_lightning.tuning.settings import TuneSettings
from kemr_lightning.tuning.tune import measure_baseline, open_search, run_search

logger = logging.getLogger(__name__)


def tune(config: DictConfig) -> float:
    """Search, and write ``knowledge.safetensors``, ``tune.json``, ``trials.csv`` and figures into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the images, ``search`` the ranges.

    Returns:
        The best figure found, in percent.

    Raises:
        UserError: Something in the configuration, the checkpoint or the data has to be fixed.
    """
    directory = start(config)
    settings = read_settings(config, "tune", TuneSettings)
    refiner = _tuned_refiner(config)
    with settings_under("search", search=""):
        ranges = read_ranges(plain(config.search) or {}, refiner.params)
    checkpoint = needed_checkpoint(config)
    module, device = trained_module(config, checkpoint), device_of(config)
    data = build_data(config, "test" if settings.source == "test" else "fit", module.label_names)
    metric = build_metric(config)
    images = ScoredImages(
        whole_samples(data, settings.source),
        initial_predictor(module, device),
        config.seed,
        settings.memory_mb,
        metric.threshold,
    )
    scorer = Scorer(images, settings.chunks, metric.ia_score, metric.ia_iou, metric.max_detections)
    origin = provenance(checkpoint, DataFolder.of(config).name, settings.source)
    with logging_closed():
        loggers = build_loggers(config)
        try:
            with settings_under("tune"):
                baseline = measure_baseline(scorer, refiner, settings)
                tell_of_store(module)
                search = open_search(scorer, refiner, ranges, settings, model_digest(checkpoint, module), config.seed)
                findings = run_search(search, baseline, settings, origin, directory, loggers)
        except KeyboardInterrupt:
            again = shell_word("tune.storage", settings.storage)
            logger.warning("interrupted: the same command with %s resumes it", again)
            raise
        finally:
            if (directory / KNOWLEDGE).is_file():
                _tell_use(config, checkpoint, directory)
    return findings.best[settings.objective]


def _tuned_refiner(config: DictConfig) -> Refiner:
    """The refiner whose parameters are tuned."""
    if config.get("knowledge") is not None:
        raise UserError("task=tune looks for parameters; knowledge brings its own. Leave knowledge=FILE out")
    if config.tune.source == "test":
        logger.warning("tune.source=test: figures reported on these images will be optimistic for the parameters found")
    refiner = build_refiner(config)
    if not isinstance(refiner, Refiner):
        raise UserError("task=tune needs the CRF. Use refine=dense_crf")
    if refiner.outside > 0:
        raise UserError("a knowledge file cannot hold refine.outside. Leave it at 0 for task=tune")
    return refiner


def _tell_use(config: DictConfig, checkpoint: Path, directory: Path) -> None:
    """Log the command that refines with what was found."""
    words = ["task=test", override("ckpt", checkpoint), override("knowledge", directory / KNOWLEDGE)]
    root = DataFolder.of(config).root
    if root:
        words.append(override("data.root", root))
    logger.info("use it: %s", shlex.join(["python", "run.py", *words]))
