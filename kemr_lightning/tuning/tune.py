"""A tuning: measure what is to be beaten, search, and keep what was found."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from kemr_lightning.core.errors import SettingError
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.fingerprint import fingerprint
from kemr_lightning.tuning.ranges import Range
from kemr_lightning.tuning.scoring import Scorer
from kemr_lightning.tuning.settings import TuneSettings
from kemr_lightning.tuning.storage import one_at_a_time, open_storage
from kemr_lightning.tuning.study import Search
from kemr_lightning.tuning.trials import log_trial
from kemr_lightning.tuning.tune_results import Baseline, TuneResults, log_findings, write_findings

logger = logging.getLogger(__name__)


def measure_baseline(scorer: Scorer, refiner: Refiner, settings: TuneSettings) -> Baseline:
    """Score the initial masks and the configured parameters.

    Args:
        scorer: Scores them.
        refiner: With the configured parameters.
        settings: Which figure is maximised, and on which images.

    Raises:
        SettingError: No image has an annotation.
    """
    initial = scorer.initial()
    if math.isnan(initial[settings.objective]):
        raise SettingError("source", settings.source, "has no annotated instance to score", "Give annotated images")
    return Baseline(initial, scorer.all(refiner))


def open_search(
    scorer: Scorer,
    refiner: Refiner,
    ranges: Mapping[str, Range],
    settings: TuneSettings,
    model: str,
    seed: int,
) -> Search:
    """Begin a study, or resume the one in the storage if its trials are comparable.

    Args:
        scorer: Scores a refiner.
        refiner: With the configured parameters.
        ranges: The range of each parameter that is searched.
        settings: See `TuneSettings`.
        model: Digest of what predicts the initial masks.
        seed: Seed of the sampler.

    Raises:
        SettingError: The storage cannot be opened.
    """
    name = f"{settings.objective} {fingerprint(model, scorer, refiner)}"
    with one_at_a_time(settings.storage):
        storage = open_storage(settings.storage)
        search = Search(scorer, refiner, ranges, settings.objective, storage, name, seed, settings.startup)
    before = len(search.ended())
    if before:
        logger.info("%s has %d trials of this study: resuming it", settings.storage, before)
    return search


def run_search(
    search: Search,
    baseline: Baseline,
    settings: TuneSettings,
    origin: Mapping[str, Any],
    directory: Path,
    loggers: Sequence[Logger],
) -> TuneResults:
    """Search, log every trial, and write what was found, also by a search that is interrupted; close the loggers.

    Args:
        search: The search.
        baseline: The figures to be beaten.
        settings: See `TuneSettings`.
        origin: The checkpoint and the data, as the knowledge records them.
        directory: The run directory.
        loggers: The run's loggers.

    Returns:
        What was found.

    Raises:
        SettingError: No trial has ended in time.
    """
    status, findings = "failed", None
    try:
        search.run(settings.trials, settings.timeout, lambda trial: log_trial(trial, settings.objective, loggers))
        status = "success"
    finally:
        if search.ended():
            findings = TuneResults.of(search, baseline, settings.storage)
            write_findings(findings, search, origin, directory)
            log_findings(findings, search, directory, loggers)
        for each in loggers:
            each.finalize(status)
    if findings is None:
        raise SettingError("timeout", settings.timeout, "is over before the first trial has ended", "Give more seconds")
    return findings
