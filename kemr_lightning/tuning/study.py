"""The search itself: an Optuna study that outlives its process and that several processes may share."""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.locks import lock
from kemr_lightning.refinement.dense_crf import PARAMETER_NAMES, CRFParams, RefinementError
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.scoring import Scorer

logger = logging.getLogger(__name__)

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
PARAMS, FIGURES, PROCESS, CPU = "crf", "figures", "process", "cpu_seconds"
"""Names of what trials carry beside their parameters."""

DATABASE_TIMEOUT = 120.0
"""Seconds to wait for other processes that write."""

TRIES = 5
"""Of opening a database."""


@dataclass(frozen=True)
class Range:
    """What a parameter may be.

    Attributes:
        low: Least value.
        high: Greatest value.
        log: Whether orders of magnitude are searched evenly.
        step: Multiples above ``low`` only, or None.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


def read_ranges(search: Mapping[str, Any], params: CRFParams) -> dict[str, Range]:
    """The ranges of a ``search`` configuration.

    Args:
        search: Parameter name -> ``low``, ``high`` and perhaps ``log`` or ``step``; None leaves a parameter out.
        params: What is not searched.

    Returns:
        Parameter name -> range.

    Raises:
        UserError: An unknown parameter, or a range that is none.
    """
    known = (*PARAMETER_NAMES, "iterations")
    ranges = {}
    for name, values in search.items():
        if values is None:
            continue
        if name not in known:
            raise UserError(f"search.{name} is no parameter of the CRF. Use {', '.join(known)}")
        try:
            found = Range(**values)
            ends = [_whole(name, float(value)) for value in (found.low, found.high)]
            for value in ends:
                changed(params, {name: value})
        except (TypeError, ValueError) as error:
            reason = (
                str(error) if isinstance(error, RefinementError) else "it needs low and high, and may have log or step"
            )
            raise UserError(f"search.{name}={values} is no range: {reason}") from error
        if found.low >= found.high or (found.log and (found.low <= 0 or found.step is not None)):
            raise UserError(f"search.{name}={values} is no range. Give low < high; with log, low > 0 and no step")
        ranges[name] = found
    if not ranges:
        raise UserError("search names no parameter. Use search=crf or search=sigmas")
    return ranges


def changed(params: CRFParams, values: Mapping[str, float | int]) -> CRFParams:
    """Parameters with some of them replaced; raises `RefinementError` for one outside its range."""
    return CRFParams(**{**asdict(params), **values})


def _whole(name: str, value: float) -> float | int:
    return round(value) if name == "iterations" else value


@contextmanager
def one_at_a_time(place: str) -> Iterator[None]:
    """Let processes that share a study begin one after another: they create its tables and queue its first trial.

    Args:
        place: See `open_storage`. A database that is no file of this machine has to do with `open_storage`'s tries.

    Raises:
        UserError: The place cannot be understood or written to.
    """
    try:
        file = _file(place)
        held = None if file is None else lock(file.with_name(f".{file.name}.begin"))
    except (OSError, SQLAlchemyError) as error:
        raise _cannot_open(place, error) from error
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def _file(place: str) -> Path | None:
    """The file of a journal or of an SQLite database, None for other databases and for one in memory."""
    if "://" not in place:
        return Path(place)
    url = make_url(place)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database not in (None, ":memory:") else None


def open_storage(place: str) -> BaseStorage:
    """A storage that several processes may use at once.

    Args:
        place: A file, kept as Optuna's journal, or a database URL such as ``sqlite:///study.db``.

    Raises:
        UserError: It cannot be opened.
    """
    try:
        file = _file(place)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        if "://" in place:
            return _database(place)
        return JournalStorage(JournalFileBackend(place))
    except Exception as error:
        raise _cannot_open(place, error) from error


def _cannot_open(place: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"tune.storage={place} cannot be opened ({reason}). Give another file")


def _database(url: str) -> RDBStorage:
    """A database. One that is new gets its tables from whoever comes first; the others find them half made and wait."""
    # SQLite lets one process write at a time and by itself waits for 5 s only.
    options = {"connect_args": {"timeout": DATABASE_TIMEOUT}} if url.startswith("sqlite") else None
    for attempt in range(TRIES):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except (SQLAlchemyError, AssertionError):  # Optuna asserts that a table has its row
            if attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))
    raise AssertionError("the last try returns or raises")


class Search:
    """A study over CRF parameters.

    Args:
        scorer: Scores a refiner.
        refiner: Its parameters are kept where nothing is searched; they are also tried first.
        ranges: What is searched.
        objective: One of `SCORES`, maximised.
        storage: See `open_storage`.
        name: Of the study: trials of one name must be comparable.
        seed: Of the sampler.
        startup: Random trials at the start.
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
        # Processes that share a study must not draw the same numbers, nor a process that goes on those drawn before.
        own = seed + len(known) + (os.getpid() if any(t.state == TrialState.RUNNING for t in known) else 0)
        self.study.sampler = optuna.samplers.TPESampler(seed=own, n_startup_trials=startup, multivariate=True)
        self._take_up(known)
        self.study.enqueue_trial(self._clipped(asdict(refiner.params)), skip_if_exists=True)

    def run(
        self,
        trials: int,
        timeout: float | None = None,
        told: Callable[[FrozenTrial], None] | None = None,
    ) -> None:
        """Try parameters until the study has its trials.

        Args:
            trials: Complete and pruned ones of the whole study.
            timeout: Seconds after which no trial is begun.
            told: Called after every trial of this process.
        """
        if len(self.ended()) >= trials:
            return
        stop = optuna.study.MaxTrialsCallback(trials, states=ENDED)
        tell = [] if told is None else [lambda _, trial: told(trial)]
        self.study.optimize(self._try, timeout=timeout, callbacks=[*tell, stop])

    def ended(self) -> list[FrozenTrial]:
        """Complete and pruned trials of the whole study."""
        return self.study.get_trials(deepcopy=False, states=ENDED)

    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value, or None."""
        complete = [t for t in self.study.get_trials(states=(TrialState.COMPLETE,)) if t.value is not None]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    def importance(self) -> dict[str, float]:
        """How much of the figure's variation is due to each parameter (PED-ANOVA), adding up to 1; may be empty."""
        try:
            return optuna.importance.get_param_importances(
                self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError) as error:
            logger.info("parameter importance needs more complete trials (%s)", error)
            return {}

    def _try(self, trial: Trial) -> float:
        trial.set_user_attr(PROCESS, f"{socket.gethostname()}:{os.getpid()}")
        values = {name: self._suggest(trial, name, within) for name, within in self.ranges.items()}
        params = changed(self.refiner.params, values)
        trial.set_user_attr(PARAMS, asdict(params))
        figures: dict[str, float] = {}
        start = time.process_time()

        def refine(image: Any, instances: Any) -> Any:
            return self.refiner(image, instances, params)

        for step, figures in enumerate(self.scorer.parts(refine)):
            trial.set_user_attr(FIGURES, figures)
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
        """The searched parameters of a set, moved into their ranges."""
        return {
            name: _whole(name, min(max(float(params[name]), within.low), within.high))
            for name, within in self.ranges.items()
        }

    def _take_up(self, known: list[FrozenTrial]) -> None:
        """Close trials of processes of this machine that have died, and queue their parameters again."""
        host = socket.gethostname()
        for trial in known:
            where, _, number = str(trial.user_attrs.get(PROCESS, "")).rpartition(":")
            if trial.state == TrialState.RUNNING and where == host and not _alive(int(number)):
                self.study.tell(trial.number, state=TrialState.FAIL)
                if set(self.ranges) <= set(trial.params):
                    self.study.enqueue_trial(self._clipped(trial.params))
                logger.info("trial %d of an interrupted run is tried again", trial.number)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
