"""Finished runs as a comparison needs them: settings, model, predictions, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from kemr_lightning.comparison.records import read_json, read_records
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import (
    BEST,
    CONFIG,
    GROUND_TRUTH,
    METRICS,
    PREDICTIONS,
    PREDICTIONS_INITIAL,
    run_of_checkpoint,
)
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.timing import read_timing
from kemr_lightning.training.checkpoint import read_checkpoint

RESULTS = (METRICS, PREDICTIONS, PREDICTIONS_INITIAL, GROUND_TRUTH)

Detector = Literal["mask_rcnn", "blendmask", "cascade"]


@dataclass(frozen=True)
class FinishedRun:
    """A trained and tested model.

    Attributes:
        directory: The run directory.
        config: The configuration of the test: data, refinement.
        training: That of the training which made the checkpoint; the same one for a run of ``task=train``.
        checkpoint: The model.
        model: Its description, from the checkpoint.
        initial: Images with the detector's own masks.
        final: The same with refined masks; equal to ``initial`` without refinement.
        refined: Whether the run refined.
        timing: Content of the ``timing.json`` of the test, with the training's part; may be empty.
    """

    directory: Path
    config: DictConfig
    training: DictConfig
    checkpoint: Path
    model: Mapping[str, Any]
    initial: list[ImageRecord]
    final: list[ImageRecord]
    refined: bool
    timing: Mapping[str, Any]

    @property
    def detector(self) -> Detector:
        """What kind of model it is, by the checkpoint's description."""
        if str(self.model.get("_target_", "")).rpartition(".")[2] == "blendmask":
            return "blendmask"
        heads = self.model.get("heads") or {}
        return "mask_rcnn" if heads.get("variant") is None else "cascade"


def is_finished(directory: Path) -> bool:
    """Whether a run has written everything that a comparison reads."""
    return all((directory / name).is_file() for name in (CONFIG, *RESULTS)) and (directory / BEST).is_file()


def read_run(directory: Path) -> FinishedRun:
    """Read the directory of a ``task=train`` or ``task=test``.

    Args:
        directory: The run directory. That of a test has no checkpoint of its own: it is the one its ``ckpt`` names,
            and the settings of the training are those in the directory around it, if that is still there.

    Returns:
        The run.

    Raises:
        UserError: A file is missing or broken, or the files do not belong together.
    """
    if not directory.is_dir():
        raise UserError(f"runs: {directory} is no directory. Name the directories of finished runs (runs=[DIR1,DIR2])")
    config = read_config(directory)
    metrics = read_json(directory / METRICS)
    initial, final = read_records(directory)
    for group, records in (("initial", initial), ("refined", final)):
        if group in metrics:
            _check_figures(directory, metrics[group], records)
    checkpoint = directory / BEST
    if not checkpoint.is_file():
        given = config.get("ckpt")
        if given is None or not Path(str(given)).is_file():
            raise UserError(f"{checkpoint} does not exist. Copy the run with its checkpoints/, or train it to its end")
        checkpoint = Path(str(given))
    origin = run_of_checkpoint(checkpoint)
    trained_here = origin.resolve() == directory.resolve() or not (origin / CONFIG).is_file()
    timing = read_timing(directory)
    return FinishedRun(
        directory,
        config,
        config if trained_here else read_config(origin),
        checkpoint,
        read_checkpoint(checkpoint)["hyper_parameters"]["model"],
        initial,
        final,
        "refined" in metrics,
        timing if trained_here else {**{k: v for k, v in read_timing(origin).items() if k == "training"}, **timing},
    )


def read_config(directory: Path) -> DictConfig:
    """The resolved configuration of a run.

    Raises:
        UserError: It is missing or broken.
    """
    file = directory / CONFIG
    try:
        config = OmegaConf.load(file)
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist. Name the directory of a finished run") from error
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file} cannot be read ({reason}). Name the directory of a finished run") from error
    if not isinstance(config, DictConfig) or not isinstance(config.get("data"), DictConfig):
        raise UserError(f"{file} is not the configuration of a run. Name the directory of a finished run")
    return config


def _check_figures(directory: Path, said: Mapping[str, Any], records: list[ImageRecord]) -> None:
    found = headline(records)
    for name in ("BoxAP", "MaskAP", "AP50", "AP75"):
        value = said.get(name)
        if value is not None and not abs(value - found[name]) < 1e-6:
            raise UserError(
                f"{directory}: {METRICS} has {name} {value:.4f}, its predictions give {found[name]:.4f}; they are of "
                "different tests. Test the model again (task=test)"
            )
