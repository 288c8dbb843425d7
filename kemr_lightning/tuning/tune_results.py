"""What a study has found: as data, as files of a run, and in W&B."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from optuna.trial import TrialState

from kemr_lightning.core.files import write_csv, write_json
from kemr_lightning.core.run_directory import FIGURES, HISTORY, IMPORTANCE, KNOWLEDGE, KNOWLEDGE_TEXT, TRIALS, TUNE
from kemr_lightning.output.knowledge_files import log_knowledge, write_knowledge
from kemr_lightning.output.wandb_run import attempt
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.tuning.scoring import SCORES
from kemr_lightning.tuning.study import PARAMS, TRIAL_FIGURES, Search
from kemr_lightning.tuning.study_figures import draw_history, draw_importance
from kemr_lightning.tuning.trials import trials_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Baseline:
    """The figures to be beaten, each name -> percent as in `SCORES`.

    Attributes:
        initial: Without refinement.
        configured: With the configured parameters.
    """

    initial: dict[str, float]
    configured: dict[str, float]


@dataclass(frozen=True)
class TuneResults:
    """What a study has found; the content of ``tune.json``.

    Attributes:
        objective: The figure that was maximised.
        study: The study's name.
        storage: Where it is kept.
        trials: Number of complete and pruned trials.
        pruned: Number of pruned ones among them.
        images: Number of images.
        initial: As in `Baseline`.
        configured: As in `Baseline`.
        best: The figures of the best parameters.
        params: The best parameters; the configured ones, if no trial was better.
        importance: See `Search.importance`.
    """

    objective: str
    study: str
    storage: str
    trials: int
    pruned: int
    images: int
    initial: dict[str, float]
    configured: dict[str, float]
    best: dict[str, float]
    params: CRFParams
    importance: dict[str, float]

    @classmethod
    def of(cls, search: Search, baseline: Baseline, storage: str) -> TuneResults:
        """The findings of a search.

        Args:
            search: At least one of its trials has ended.
            baseline: The figures to be beaten.
            storage: Where the study is kept.
        """
        params, figures = search.refiner.params, baseline.configured
        best, ended = search.best(), search.ended()
        if best is not None and (best.value or 0.0) > baseline.configured[search.objective]:
            params, figures = CRFParams(**best.user_attrs[PARAMS]), best.user_attrs[TRIAL_FIGURES]
        else:
            logger.warning("no trial was better than the configured parameters: they are kept")
        return cls(
            objective=search.objective,
            study=search.study.study_name,
            storage=storage,
            trials=len(ended),
            pruned=sum(trial.state == TrialState.PRUNED for trial in ended),
            images=len(search.scorer.images),
            initial=baseline.initial,
            configured=baseline.configured,
            best=figures,
            params=params,
            importance=search.importance(),
        )

    def knowledge(self, origin: Mapping[str, Any], margin: int) -> Knowledge:
        """The best parameters as knowledge.

        Args:
            origin: The checkpoint and the data, see `kemr_lightning.training.provenance`.
            margin: Pixels around a patch that the CRF saw.
        """
        before, after = self.initial[self.objective], self.best[self.objective]
        found_by = f"task=tune, {self.trials} trials: {self.objective} {before:.2f} -> {after:.2f}"
        known = from_params(self.params, {**origin, "images": self.images, "found_by": found_by})
        return replace(known, margin=margin)


def write_findings(findings: TuneResults, search: Search, origin: Mapping[str, Any], directory: Path) -> None:
    """Write findings, trials, knowledge and figures, and log the best parameters.

    Args:
        findings: What was found.
        search: The search that found it.
        origin: See `TuneResults.knowledge`.
        directory: The run directory.
    """
    objective, ended = findings.objective, search.ended()
    write_json(directory / TUNE, asdict(findings), indent=1)
    columns, *rows = trials_table(ended)
    write_csv(directory / TRIALS, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    knowledge = findings.knowledge(origin, search.refiner.margin)
    write_knowledge(knowledge, directory)
    lines = {"without refinement": findings.initial[objective], "configured": findings.configured[objective]}
    draw_history(ended, objective, lines, directory / FIGURES / HISTORY)
    if findings.importance:
        draw_importance(findings.importance, objective, directory / FIGURES / IMPORTANCE)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in asdict(findings.params).items())
    logger.info("best of %d trials (%d pruned): %s", findings.trials, findings.pruned, shown)
    for name in SCORES:
        before, configured, best = findings.initial[name], findings.configured[name], findings.best[name]
        logger.info("%s: %.2f initial, %.2f configured, %.2f best", name, before, configured, best)


def log_findings(findings: TuneResults, search: Search, directory: Path, loggers: Sequence[Logger]) -> None:
    """Log the best parameters, the table of all trials, the knowledge and the figures to W&B, if that is used.

    Args:
        findings: What was found.
        search: The search that found it.
        directory: The run directory, with the files of `write_findings`.
        loggers: The run's loggers.
    """
    for each in loggers:
        if isinstance(each, WandbLogger):
            run = each.experiment
            attempt(lambda run=run: _log_to_wandb(run, findings, search, directory))  # type: ignore[misc]


def _log_to_wandb(run: Any, findings: TuneResults, search: Search, directory: Path) -> None:
    import wandb  # late: it takes a second, and not every run logs to it

    columns, *rows = trials_table(search.ended())
    pictures = {f"tune/{path.stem}": wandb.Image(str(path)) for path in (directory / FIGURES).glob("*.png")}
    run.log({"tune/trials": wandb.Table(columns=[*columns], data=rows), **pictures})
    files = [directory / KNOWLEDGE, directory / KNOWLEDGE_TEXT]
    log_knowledge(run, Knowledge.load(files[0]), files)
    best = {**findings.best, **asdict(findings.params)}
    run.summary.update({f"best/{name}": value for name, value in best.items()})
    run.summary.update({f"initial/{name}": value for name, value in findings.initial.items()})
