"""The W&B run of a task: offline by default; if it fails or is slow to answer, the task continues without it.

With ``offline=True``, Lightning's `WandbLogger` overwrites ``WANDB_MODE`` for the whole process and refuses to log
checkpoints. Here the mode is an argument of the run, which avoids both.
"""

from __future__ import annotations

import logging
import netrc
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import lightning.pytorch as pl
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from typing_extensions import override

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import OFFLINE_RUNS, WANDB

logger = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    **dict.fromkeys(("online", "run", "shared"), "online"),
    **dict.fromkeys(("offline", "dryrun"), "offline"),
    "disabled": "disabled",
}
"""Values of ``WANDB_MODE`` and what they mean."""

SECONDS_TO_REACH = 10.0
"""Time that a server may take to answer at all."""

NO_MESSAGE = "<no message>"
"""W&B's own text for a server's error without one, such as that for an unknown key."""

_DATA_DIR = "WANDB_DATA_DIR"
"""Environment variable: the folder where files wait for their upload."""

_ours: list[str] = []
"""Environment variables that were set for the current run."""


def wanted_mode(offline: bool | None, environment: Mapping[str, str]) -> Mode:
    """The mode that the configuration and the environment ask for.

    Args:
        offline: The configured choice; None leaves it to the environment.
        environment: The process's environment. Its ``WANDB_MODE`` counts if ``offline`` is None; ``disabled`` always
            counts.

    Returns:
        The mode; offline if nothing is asked for.

    Raises:
        UserError: ``WANDB_MODE`` has an unknown value.
    """
    asked = environment.get("WANDB_MODE", "").strip().lower()
    if asked and asked not in MODES:
        raise UserError(f"WANDB_MODE={asked} is unknown. Use online, offline or disabled")
    mode = MODES.get(asked, "offline")
    if offline is None or mode == "disabled":
        return mode
    return "offline" if offline else "online"


class RunLogger(WandbLogger):
    """Lightning's W&B logger that falls back from online to offline to disabled, and says so in one line.

    Without an API key or a server that answers, an online run becomes an offline one; it never prompts on the
    terminal. Tables and artifacts that wait for their upload are kept in the run's own ``wandb/`` folder and not in the
    user's home directory, so that they are copied and deleted with the run.

    Args:
        offline: True, False, or None for what ``WANDB_MODE`` says, which is offline if it is not set.
        options: Options of `WandbLogger` and ``wandb.init``; ``log_model`` works offline too.

    Raises:
        UserError: ``WANDB_MODE`` has an unknown value.
    """

    def __init__(self, offline: bool | None = None, **options: Any) -> None:
        super().__init__(offline=False, **options)
        self.mode = wanted_mode(offline, os.environ)
        # Lightning always passes these two; the first is deprecated, the second is meaningless without an id.
        self._wandb_init.pop("anonymous", None)
        if self._wandb_init.get("id") is None:
            self._wandb_init.pop("resume", None)

    @property
    @rank_zero_experiment
    @override
    def experiment(self) -> Any:
        """The run, started on first use."""
        import wandb  # late: it takes a second, and not every task logs

        attached = getattr(self, "_attach_id", None) is not None
        if self._experiment is None and wandb.run is None and not attached:
            self._experiment = start_run(self._wandb_init, self.mode)
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return super().experiment

    @property
    def logs_checkpoints(self) -> bool:
        """Whether checkpoints are wanted as artifacts."""
        return bool(self._log_model)


def start_run(options: Mapping[str, Any], mode: Mode) -> Any:
    """Start a run in the wanted mode; where that fails, offline or else disabled.

    Args:
        options: Options of ``wandb.init``; ``dir`` is the run directory.
        mode: The wanted mode.

    Returns:
        The ``wandb.Run``.
    """
    import wandb

    where = Path(str(options.get("dir") or ".")) / WANDB
    if _DATA_DIR not in os.environ:
        os.environ[_DATA_DIR] = str(where.resolve())
        _ours.append(_DATA_DIR)
    if mode == "online":
        reason = why_not_online()
        if reason is None:
            try:
                return wandb.init(**options, mode="online")
            except (wandb.errors.Error, OSError, ValueError) as error:
                reason = _one_line(error)
        logger.warning("W&B: %s. The run is logged offline; `wandb sync %s` uploads it", reason, where / OFFLINE_RUNS)
    if mode != "disabled":
        try:
            return wandb.init(**options, mode="offline")
        except (wandb.errors.Error, OSError, ValueError) as error:
            logger.warning("W&B could not be started (%s). The run continues without it", _one_line(error))
    return wandb.init(**options, mode="disabled")


def why_not_online() -> str | None:
    """Why a run cannot be streamed to the server, in a few words; None if nothing speaks against it."""
    import wandb

    settings = wandb.setup().settings
    host = str(settings.base_url)
    if not (settings.api_key or _key_elsewhere(host, os.environ)):
        return f"there is no API key for {host} (`wandb login` stores one)"
    return None if reachable(host) else f"{host} cannot be reached"


def _key_elsewhere(host: str, environment: Mapping[str, str]) -> bool:
    """Whether W&B would find credentials in the environment or in the file that ``wandb login`` writes."""
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    given = environment.get("NETRC")
    files = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for file in files:
        try:
            if netrc.netrc(str(file.expanduser())).authenticators(urlsplit(host).hostname or host) is not None:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def reachable(host: str, seconds: float = SECONDS_TO_REACH) -> bool:
    """Whether a server answers in time, whatever its answer is.

    Args:
        host: The server's address, such as ``https://api.wandb.ai``.
        seconds: Time to wait. Looking up a name has no time limit of its own, so a thread does all of it.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=seconds):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def finish_run(summary: Mapping[str, Any] | None = None, failed: bool = False) -> None:
    """Finish the process's run, if there is one, so that the next job of a sweep does not continue it.

    Args:
        summary: Values to add to the run's summary.
        failed: Whether the task has failed.
    """
    wandb = sys.modules.get("wandb")
    try:
        if wandb is not None and wandb.run is not None:
            wandb.run.summary.update(dict(summary or {}))
            wandb.finish(exit_code=1 if failed else 0)
    except Exception as error:  # the results are on disk; an upload that fails must not hide them
        logger.warning("W&B: %s. `wandb sync` uploads what is missing", _one_line(error))
    finally:
        while _ours:
            os.environ.pop(_ours.pop(), None)


def run_of(trainer: pl.Trainer) -> Any | None:
    """The W&B run of a trainer, or None if it has none."""
    return next((each.experiment for each in trainer.loggers if isinstance(each, WandbLogger)), None)


def attempt(do: Callable[[], object]) -> None:
    """Log something; if that fails, report it and continue."""
    try:
        do()
    except Exception:
        logger.warning("W&B could not log something; the run continues without it", exc_info=True)


def log_checkpoint(trainer: pl.Trainer, file: Path) -> None:
    """Log a checkpoint that this run has not trained as an artifact, if ``log_model`` asks for it.

    Args:
        trainer: The trainer with the loggers, which log the checkpoints that it trains by themselves.
        file: The checkpoint.
    """
    for each in trainer.loggers:
        if isinstance(each, RunLogger) and each.logs_checkpoints and trainer.is_global_zero:
            run = each.experiment
            attempt(lambda run=run: log_files(run, [file], f"model-{run.id}", "model"))  # type: ignore[misc]


def log_files(
    run: Any,
    files: Sequence[Path],
    name: str,
    kind: str,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Log files as an artifact.

    Args:
        run: The W&B run.
        files: The files, each of which keeps its name.
        name: The artifact's name; the same content under the same name makes no second version.
        kind: The artifact's type.
        description: The artifact's description.
        metadata: Plain values to store with the artifact.
    """
    import wandb

    artifact = wandb.Artifact(name, type=kind, description=description, metadata=dict(metadata or {}))
    for file in files:
        artifact.add_file(str(file), name=file.name)
    run.log_artifact(artifact)


def _one_line(error: BaseException) -> str:
    """The message of an error on one line, without a full stop."""
    if NO_MESSAGE in str(error):
        return "the server refused the key or did not accept the run"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
