"""The search itself: an Optuna study over CRF parameters, which may be resumed later or shared by several processes."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from torch import Tensor

from kemr_lightning.core.instances import Instances
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.ranges import Range, as_kind, with_values
from kemr_lightning.tuning.scoring import Scorer

logger = logging.getLogger(__name__)

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count; failed ones do not."""

PARAMS, TRIAL_FIGURES, PROCESS, CPU = "crf", "figures", "process", "cpu_seconds"
"""Names of a trial's attributes: all CRF parameters, the figures so far, HOST:PROCESS, and CPU time in seconds."""


class Search:
    """A study over CRF parameters.

    Args:
        scorer: Scores a refiner.
        refiner: Its parameters are tried first; those that are not searched keep its values.
        ranges: The range of each parameter that is searched.
        objective: One of `SCORES`, maximised.
        storage: See `kemr_lightning.tuning.storage.open_storage`.
        name: The study's name. Trials of studies with one name must be comparable.
        seed: Seed of the sampler.
        startup: Random trials before the search begins and before any trial is pruned.
    """

    def __init__(
        self,
        scorer: Scorer,
        refiner: Refiner,
        ranges: Mapping[str, Range],
        objective: str,
        storage: BaseStorage,
        name: str,
        seed: int = 0,
        startup: int = 10,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.scorer = scorer
        self.refiner = refiner
        self.ranges = dict(ranges)
        self.objective = objective
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=0, n_min_trials=3),
        )
        known = self.study.get_trials(deepcopy=False)
        # Neither processes that share a study nor a resumed study may draw the same numbers again.
        own = seed + len(known) + (os.getpid() if any(t.state == TrialState.RUNNING for t in known) else 0)
        self.study.sampler = optuna.samplers.TPESampler(seed=own, n_startup_trials=startup, multivariate=True)
        self._take_up(known)
        self.study.enqueue_trial(self._clipped(asdict(refiner.params)), skip_if_exists=True)

    def run(
        self,
        trials: int,
        timeout: float | None = None,
        on_trial: Callable[[FrozenTrial], None] | None = None,
    ) -> None:
        """Try parameters until the study has enough trials.

        Args:
            trials: Number of complete and pruned trials of the whole study.
            timeout: Seconds after which no further trial is started; None for no limit.
            on_trial: Called after every trial of this process.
        """
        if len(self.ended()) >= trials:
            return
        stop = optuna.study.MaxTrialsCallback(trials, states=ENDED)
        tell = [] if on_trial is None else [lambda _, trial: on_trial(trial)]
        self.study.optimize(self._try, timeout=timeout, callbacks=[*tell, stop])

    def ended(self) -> list[FrozenTrial]:
        """Complete and pruned trials of the whole study."""
        return self.study.get_trials(deepcopy=False, states=ENDED)

    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value, or None."""
        complete = [t for t in self.study.get_trials(states=(TrialState.COMPLETE,)) if t.value is not None]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    def importance(self) -> dict[str, float]:
        """The share of the objective's variation that is due to each parameter (PED-ANOVA, Watanabe et al. 2023).

        Returns:
            Parameter name -> share; they add up to 1. Empty where there are too few complete trials.
        """
        try:
            return optuna.importance.get_param_importances(
                self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError) as error:
            logger.info("the importance of the parameters needs more complete trials (%s)", error)
            return {}

    def _try(self, trial: Trial) -> float:
        """Score one set of parameters, part by part."""
        trial.set_user_attr(PROCESS, f"{socket.gethostname()}:{os.getpid()}")
        values = {name: self._suggest(trial, name, within) for name, within in self.ranges.items()}
        params = with_values(self.refiner.params, values)
        trial.set_user_attr(PARAMS, asdict(params))
        figures: dict[str, float] = {}
        start = time.process_time()

        def refine(image: Tensor, instances: Instances) -> Instances:
            return self.refiner(image, instances, params)

        for step, figures in enumerate(self.scorer.parts(refine)):
            trial.set_user_attr(TRIAL_FIGURES, figures)
            trial.set_user_attr(CPU, round(time.process_time() - start, 3))
            value = figures[self.objective]
            if step < len(self.scorer.ends) - 1 and not math.isnan(value):
                trial.report(value, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return figures[self.objective]

    def _suggest(self, trial: Trial, name: str, within: Range) -> float | int:
        if name == "iterations":
            step = 1 if within.step is None else round(within.step)
            return trial.suggest_int(name, round(within.low), round(within.high), step=step, log=within.log)
        return trial.suggest_float(name, within.low, within.high, step=within.step, log=within.log)

    def _clipped(self, params: Mapping[str, float]) -> dict[str, float]:
        """The parameters that are searched, each clipped to its range."""
        return {
            name: as_kind(name, min(max(float(params[name]), within.low), within.high))
            for name, within in self.ranges.items()
        }

    def _take_up(self, known: list[FrozenTrial]) -> None:
        """Fail the running trials of dead processes of this machine, and queue their parameters again."""
        host = socket.gethostname()
        for trial in known:
            where, _, number = str(trial.user_attrs.get(PROCESS, "")).rpartition(":")
            if trial.state == TrialState.RUNNING and where == host and not _alive(int(number)):
                self.study.tell(trial.number, state=TrialState.FAIL)
                if set(self.ranges) <= set(trial.params):
                    self.study.enqueue_trial(self._clipped(trial.params))
                logger.info("trial %d of an interrupted run is tried again", trial.number)


def _alive(process: int) -> bool:
    """Whether this machine runs a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
