"""``task=tune``: Bayesian search over the CRF's parameters, in process, on stored predictions."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from kemr_lightning.assembly.build import (
    build_data,
    build_loggers,
    build_metric,
    logging_closed,
    trained_module,
    whole_samples,
)
from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.core.digests import remembered_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_json, write_text
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.core.run_directory import FIGURES as FIGURES_FOLDER
from kemr_lightning.core.run_directory import HISTORY, IMPORTANCE, KNOWLEDGE, KNOWLEDGE_TEXT, TRIALS, TUNE
from kemr_lightning.output.knowledge_files import log_knowledge
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tasks.start import start
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import model_digest
from kemr_lightning.tuning.scoring import SCORES, ScoredImages, Scorer
from kemr_lightning.tuning.study import CPU, FIGURES, PARAMS, Search, one_at_a_time, open_storage, read_ranges
from kemr_lightning.tuning.study_figures import draw_history, draw_importance

logger = logging.getLogger(__name__)


def tune(config: DictConfig) -> float:
    """Search, and write ``knowledge.safetensors``, ``tune.json``, ``trials.csv`` and figures into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the images, ``search`` the ranges.

    Returns:
        The best figure found, in percent.

    Raises:
        UserError: Something in the configuration, the checkpoint or the data has to be mended.
    """
    directory = start(config)
    refiner = _check(config)
    ranges = read_ranges(dict(OmegaConf.to_container(config.search, resolve=True)), refiner.params)  # type: ignore[arg-type]
    checkpoint = needed_checkpoint(config)
    module = trained_module(config)
    stage = "test" if config.tune.source == "test" else "fit"
    samples = whole_samples(build_data(config, stage, module.label_names), config.tune.source)
    metric = build_metric(config)
    images = ScoredImages(
        samples, _predictor(module, device_of(config)), config.seed, int(config.tune.memory_mb), metric.threshold
    )
    scorer = Scorer(images, int(config.tune.chunks), metric.ia_score, metric.ia_iou)
    initial = scorer.initial()
    if module.store is not None:
        module.store.tell()
    objective = str(config.tune.objective)
    if math.isnan(initial[objective]):
        raise UserError(f"tune.source={config.tune.source} has no annotated instance to score. Check data.root")
    configured = scorer.all(refiner)
    name = f"{objective} {_fingerprint(config, module, checkpoint, images, refiner)}"
    storage = str(config.tune.storage)
    with one_at_a_time(storage):
        search = Search(
            scorer, refiner, ranges, objective, open_storage(storage), name, config.seed, config.tune.startup
        )
    before = len(search.ended())
    if before:
        logger.info("%s has %d trials of this study: going on with it", config.tune.storage, before)
    with logging_closed():
        loggers = build_loggers(config)
        try:
            search.run(int(config.tune.trials), config.tune.timeout, lambda trial: _log(trial, objective, loggers))
        except KeyboardInterrupt:
            logger.warning("interrupted: the same command with tune.storage=%s goes on", config.tune.storage)
            raise
        finally:
            # What was found so far is worth having, also of a search that was stopped.
            found = _write(search, config, directory, checkpoint, initial, configured) if search.ended() else None
            if found is not None:
                _log_results(directory, found, search, loggers, failed=sys.exc_info()[0] is not None)
    if found is None:
        raise UserError(f"tune.timeout={config.tune.timeout} was over before a trial was. Give more seconds")
    return float(found["best"][objective])


def _check(config: DictConfig) -> Refiner:
    """The refiner whose parameters are tuned."""
    if config.get("knowledge") is not None:
        raise UserError("task=tune looks for parameters; knowledge brings its own. Leave knowledge=FILE out")
    if config.tune.objective not in SCORES:
        raise UserError(f"tune.objective={config.tune.objective} is unknown. Use {', '.join(SCORES)}")
    if config.tune.source not in ("val", "train", "test"):
        raise UserError(f"tune.source={config.tune.source} is unknown. Use val, train or test")
    if config.tune.source == "test":
        logger.warning("tune.source=test: figures reported on these images will flatter the parameters found")
    refiner = build_refiner(config)
    if not isinstance(refiner, Refiner):
        raise UserError("task=tune needs the CRF. Use refine=dense_crf")
    if refiner.outside > 0:
        raise UserError("a knowledge file cannot hold refine.outside. Leave it at 0 for task=tune")
    return refiner


def _predictor(module: SegmentationModule, device: torch.device) -> Any:
    module.eval().to(device)

    @torch.no_grad()
    def predict(sample: Sample) -> Instances:
        return module.predict_step([sample.to(device)], 0)[0]

    return predict


def _fingerprint(
    config: DictConfig, module: SegmentationModule, checkpoint: Path, images: ScoredImages, refiner: Refiner
) -> str:
    """Digest of all that a trial's value depends on besides its parameters: trials of one study are comparable."""
    metric = OmegaConf.to_container(config.metric, resolve=True)
    settings = (metric, refiner.engine, refiner.margin, refiner.tolerance, int(config.tune.chunks), images.order)
    digest = hashlib.sha256(f"{model_digest(checkpoint, module)} {settings}".encode())
    for position in range(len(images)):
        digest.update(images[position].image.numpy().tobytes())
        digest.update(repr(images[position].record.truth).encode())
    return digest.hexdigest()[:16]


def _log(trial: FrozenTrial, objective: str, loggers: list[Logger]) -> None:
    params, figures = trial.user_attrs.get(PARAMS, {}), trial.user_attrs.get(FIGURES, {})
    pruned = trial.state.name == "PRUNED"
    values = {f"trial/{name}": float(value) for name, value in params.items()}
    # A pruned trial's figures are of a part of the images: under a name of their own.
    values |= {f"trial/{'pruned/' if pruned else ''}{name}": float(value) for name, value in figures.items()}
    for each in loggers:
        each.log_metrics({**values, "trial/pruned": float(pruned)}, step=trial.number)
    shown = ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items())
    value = figures.get(objective, math.nan)
    logger.info("trial %d: %s %.2f%s (%s)", trial.number, objective, value, " pruned" if pruned else "", shown)


def _write(
    search: Search,
    config: DictConfig,
    directory: Path,
    checkpoint: Path,
    initial: dict[str, float],
    configured: dict[str, float],
) -> dict[str, Any]:
    """Write the results.

    Returns:
        The content of ``tune.json``.
    """
    objective, params = search.objective, search.refiner.params
    best, figures = search.best(), configured
    if best is not None and (best.value or 0.0) > configured[objective]:
        params, figures = CRFParams(**best.user_attrs[PARAMS]), best.user_attrs[FIGURES]
    else:
        logger.warning("no trial was better than the configured parameters: those are kept")
    ended = search.ended()
    importance = search.importance()
    found = {
        "objective": objective,
        "study": search.study.study_name,
        "storage": str(config.tune.storage),
        "trials": len(ended),
        "pruned": sum(trial.state.name == "PRUNED" for trial in ended),
        "images": len(search.scorer.images),
        "initial": initial,
        "configured": configured,
        "best": figures,
        "params": asdict(params),
        "importance": importance,
    }
    write_json(directory / TUNE, found, indent=1)
    write_text(directory / TRIALS, _table(ended))
    origin = {
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": remembered_digest(checkpoint),
        "data": f"{Path(str(config.data.get('root', 'synthetic'))).name}, {config.tune.source} images",
        "images": len(search.scorer.images),
        "found_by": f"task=tune, {len(ended)} trials: {objective} {initial[objective]:.2f} -> {figures[objective]:.2f}",
    }
    knowledge = replace(from_params(params, origin), margin=search.refiner.margin)
    knowledge.save(directory / KNOWLEDGE)
    write_text(directory / KNOWLEDGE_TEXT, knowledge.describe() + "\n")
    lines = {"without refinement": initial[objective], "configured": configured[objective]}
    draw_history(ended, objective, lines, directory / FIGURES_FOLDER / HISTORY)
    if importance:
        draw_importance(importance, objective, directory / FIGURES_FOLDER / IMPORTANCE)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in asdict(params).items())
    logger.info("best of %d trials (%d pruned): %s", found["trials"], found["pruned"], shown)
    for name in SCORES:
        logger.info(
            "%s: %.2f initial, %.2f configured, %.2f best", name, initial[name], configured[name], figures[name]
        )
    root = config.data.get("root")
    where = f" data.root={root}" if root else ""
    command = f"python run.py task=test ckpt={checkpoint} knowledge={directory / KNOWLEDGE}{where}"
    logger.info("use it: %s", command)
    return found


def _table(trials: list[FrozenTrial]) -> str:
    text = io.StringIO()
    params = list(dict.fromkeys(name for trial in trials for name in trial.user_attrs.get(PARAMS, {})))
    table = csv.writer(text)
    table.writerow(["trial", "state", "seconds", "cpu_seconds", "parts", *params, *SCORES])
    for trial in sorted(trials, key=lambda item: item.number):
        values, figures = trial.user_attrs.get(PARAMS, {}), trial.user_attrs.get(FIGURES, {})
        seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.3f}"
        parts = len(trial.intermediate_values) + (trial.state.name == "COMPLETE")
        row = [values.get(name) for name in params] + [figures.get(name) for name in SCORES]
        table.writerow([trial.number, trial.state.name.lower(), seconds, trial.user_attrs.get(CPU, ""), parts, *row])
    return text.getvalue()


def _log_results(directory: Path, found: dict[str, Any], search: Search, loggers: list[Logger], failed: bool) -> None:
    """The best parameters, the table of all trials and the figures, to W&B; the rest of the loggers are closed."""
    for each in loggers:
        if isinstance(each, WandbLogger):
            import wandb

            rows = list(csv.reader(io.StringIO(_table(search.ended()))))
            pictures = {path.stem: wandb.Image(str(path)) for path in (directory / FIGURES_FOLDER).glob("*.png")}
            table = wandb.Table(columns=[*rows[0]], data=rows[1:])
            each.experiment.log({"tune/trials": table, **{f"tune/{name}": item for name, item in pictures.items()}})
            best = {f"best/{name}": value for name, value in (found["best"] | found["params"]).items()}
            files = [directory / KNOWLEDGE, directory / KNOWLEDGE_TEXT]
            log_knowledge(each.experiment, Knowledge.load(files[0]), files)
            each.experiment.summary.update(best | {f"initial/{k}": v for k, v in found["initial"].items()})
        each.finalize("failed" if failed else "success")
