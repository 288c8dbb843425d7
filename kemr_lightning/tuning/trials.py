"""Trials as they are shown: logged one by one, and as rows of a table."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from lightning.pytorch.loggers import Logger
from optuna.trial import FrozenTrial, TrialState

from kemr_lightning.tuning.scoring import SCORES
from kemr_lightning.tuning.study import CPU, PARAMS, TRIAL_FIGURES

logger = logging.getLogger(__name__)


def log_trial(trial: FrozenTrial, objective: str, loggers: Sequence[Logger]) -> None:
    """Log a trial that has ended, its number as the step.

    Args:
        trial: The trial.
        objective: The figure that is maximised.
        loggers: Where to, besides the log.
    """
    params, figures = trial.user_attrs.get(PARAMS, {}), trial.user_attrs.get(TRIAL_FIGURES, {})
    pruned = trial.state == TrialState.PRUNED
    values = {f"trial/{name}": float(value) for name, value in params.items()}
    # The figures of a pruned trial are those of some of the images: they get a name of their own.
    values |= {f"trial/{'pruned/' if pruned else ''}{name}": float(value) for name, value in figures.items()}
    for each in loggers:
        each.log_metrics({**values, "trial/pruned": float(pruned)}, step=trial.number)
    shown = ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items())
    value = figures.get(objective, math.nan)
    logger.info("trial %d: %s %.2f%s (%s)", trial.number, objective, value, " pruned" if pruned else "", shown)


def trials_table(trials: Sequence[FrozenTrial]) -> list[list[str]]:
    """Trials as a table of text.

    Args:
        trials: Complete and pruned ones.

    Returns:
        The column names, then a row per trial, by number: its state, its wall and CPU time in seconds, after how many
        parts it ended, all CRF parameters, and its figures in percent (of the parts so far, if it was pruned).
    """
    params = list(dict.fromkeys(name for trial in trials for name in trial.user_attrs.get(PARAMS, {})))
    rows = [["trial", "state", "seconds", "cpu_seconds", "parts", *params, *SCORES]]
    for trial in sorted(trials, key=lambda item: item.number):
        values, figures = trial.user_attrs.get(PARAMS, {}), trial.user_attrs.get(TRIAL_FIGURES, {})
        seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.3f}"
        # A complete trial reports no intermediate figure after its last part.
        parts = len(trial.intermediate_values) + (trial.state == TrialState.COMPLETE)
        cells = [trial.number, trial.state.name.lower(), seconds, trial.user_attrs.get(CPU), parts]
        cells += [values.get(name) for name in params] + [figures.get(name) for name in SCORES]
        rows.append(["" if cell is None else str(cell) for cell in cells])
    return rows
