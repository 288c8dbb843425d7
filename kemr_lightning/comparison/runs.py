"""Finished runs as a comparison needs them: settings, model, predictions and annotations, times."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from kemr_lightning.core.config_migration import read_run_config
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.run_directory import (
    BEST,
    CONFIG,
    GROUND_TRUTH,
    METRICS,
    PREDICTIONS,
    PREDICTIONS_INITIAL,
    run_of_checkpoint,
)
from kemr_lightning.core.targets import RUN_TARGETS, refuse_foreign
from kemr_lightning.metrics.average_precision import MAX_DETECTIONS
from kemr_lightning.metrics.records import Entry, ImageRecord
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.timing_file import read_timing
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.training.module import SegmentationModule

BUILT = ("data", "refine")
"""The nodes of a run's configuration that a comparison builds."""

RESULTS = (METRICS, PREDICTIONS, PREDICTIONS_INITIAL, GROUND_TRUTH)


@dataclass(frozen=True)
class FinishedRun:
    """A trained and tested model.

    Attributes:
        directory: The run directory.
        config: The configuration of the test: data, refinement.
        training: The configuration of the training that made the checkpoint; equal to ``config`` for a training.
        checkpoint: The model's file.
        module: The model, rebuilt from the checkpoint, with the views of an image that the test averaged.
        initial: Images with the detector's own masks.
        final: The same with refined masks; equal to ``initial`` without refinement.
        refined: Whether the run refined.
        timing: What ``timing.json`` of the test holds, with the training's part; may be empty.
    """

    directory: Path
    config: DictConfig
    training: DictConfig
    checkpoint: Path
    module: SegmentationModule
    initial: list[ImageRecord]
    final: list[ImageRecord]
    refined: bool
    timing: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Which detector it is, as the detector says itself."""
        return self.module.detector.kind

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def with_data_root(self, root: str) -> FinishedRun:
        """The same run with its images in another folder; data that are made and not read stay as they are."""
        config, training = self.config.copy(), self.training.copy()
        for settings in (config, training):
            if "root" in settings.data:
                settings.data.root = root
        return replace(self, config=config, training=training)


def is_finished(directory: Path) -> bool:
    """Whether a run has written everything that a comparison reads."""
    return all((directory / name).is_file() for name in (CONFIG, *RESULTS)) and (directory / BEST).is_file()


def read_run(directory: Path, trusted: Collection[str] = ()) -> FinishedRun:
    """Read the directory of a training or a test.

    Args:
        directory: The run directory. A test has no checkpoint of its own: the model is the one that its ``ckpt`` names,
            and the settings of the training are read from the directory around that file, if it is still there.
        trusted: What data and refinement may name as ``_target_`` besides the package's own: what the user's own
            configuration names.

    Returns:
        The run.

    Raises:
        UserError: A file is missing or broken, the files do not belong together, or a configuration would call
            something else than this package's data and refinement.
    """
    if not directory.is_dir():
        raise SettingError("runs", directory, "is not a directory", "Name the directories of finished runs")
    config = _harmless(read_config(directory), directory, trusted)
    metrics = _read_json(directory / METRICS)
    initial, final = read_image_records(directory)
    for group, records in (("initial", initial), ("refined", final)):
        if group in metrics:
            _check_figures(directory, metrics[group], records, _max_detections(config))
    checkpoint = _checkpoint_of(directory, config)
    origin = run_of_checkpoint(checkpoint)
    trained_here = origin.resolve() == directory.resolve() or not (origin / CONFIG).is_file()
    timing = read_timing(directory)
    if not trained_here:
        timing = {**{key: value for key, value in read_timing(origin).items() if key == "training"}, **timing}
    module = load_module(checkpoint)
    module.look_in(int(config.get("views", 1)))
    return FinishedRun(
        directory,
        config,
        config if trained_here else _harmless(read_config(origin), origin, trusted),
        checkpoint,
        module,
        initial,
        final,
        "refined" in metrics,
        timing,
    )


def _harmless(config: DictConfig, directory: Path, trusted: Collection[str]) -> DictConfig:
    """A run's configuration, whose data and refinement are going to be built."""
    for name in BUILT:
        refuse_foreign(
            OmegaConf.to_container(OmegaConf.create({name: config.get(name)})),
            lambda target: target in RUN_TARGETS or target in trusted,
            str(directory / CONFIG),
            "Compare only runs whose data and refinement are this package's or your own configuration's",
        )
    return config


def _checkpoint_of(directory: Path, config: DictConfig) -> Path:
    own = directory / BEST
    if own.is_file():
        return own
    given = config.get("ckpt")
    if given is None or not Path(str(given)).is_file():
        raise UserError(f"{own} does not exist. Copy the run with its checkpoints, or train it to its end")
    return Path(str(given))


def read_config(directory: Path) -> DictConfig:
    """The resolved configuration of a run, in today's form whatever version wrote it.

    Args:
        directory: The run directory.

    Raises:
        UserError: It is missing or broken.
    """
    file = directory / CONFIG
    try:
        config = read_run_config(file)
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist. Name the directory of a finished run") from error
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file} cannot be read ({reason}). Name the directory of a finished run") from error
    if not isinstance(config.get("data"), DictConfig):
        raise UserError(f"{file} is not the configuration of a run. Name the directory of a finished run")
    return config


def _max_detections(config: DictConfig) -> int:
    """The maximum number of detections that a run was scored with; runs of earlier versions do not say."""
    found = (config.get("metric") or {}).get("max_detections")
    return found if isinstance(found, int) else MAX_DETECTIONS


def _check_figures(directory: Path, said: Mapping[str, Any], records: list[ImageRecord], max_detections: int) -> None:
    """Refuse a run whose metrics were not computed from its predictions."""
    found = headline(records, max_detections=max_detections)
    for name in ("BoxAP", "MaskAP", "AP50", "AP75"):
        value = said.get(name)
        if value is not None and not abs(value - found[name]) < 1e-6:
            raise UserError(
                f"{directory}: {METRICS} has {name} {value:.4f}, its predictions give {found[name]:.4f}; they are of "
                "different tests. Test the model again"
            )


def read_image_records(directory: Path) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """What a run predicted and what that was scored against; the inverse of `ResultFilesWriter.write`.

    Args:
        directory: The run directory.

    Returns:
        The records of the initial and of the final instances, by image id.

    Raises:
        UserError: A file is missing, broken, or names an image that is not in the ground truth.
    """
    file = directory / GROUND_TRUTH
    truth = _read_json(file)
    try:
        images = {int(image["id"]): image for image in truth["images"]}
        annotated: dict[int, list[Entry]] = {image_id: [] for image_id in images}
        crowds: dict[int, list[Entry]] = {image_id: [] for image_id in images}
        for item in truth["annotations"]:
            side = crowds if item.get("iscrowd") else annotated
            side[int(item["image_id"])].append(_entry(item, 1.0, float(item["area"])))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not a COCO data set ({error!r}). Test the model again") from error
    initial, final = (
        [
            ImageRecord(
                image_id,
                (int(images[image_id]["height"]), int(images[image_id]["width"])),
                str(images[image_id].get("file_name", "")),
                annotated[image_id],
                found[image_id],
                all(entry.counts is not None for entry in annotated[image_id]),
                crowds[image_id],
            )
            for image_id in sorted(images)
        ]
        for found in (_predictions(directory / name, annotated) for name in (PREDICTIONS_INITIAL, PREDICTIONS))
    )
    return initial, final


def _predictions(file: Path, images: Mapping[int, list[Entry]]) -> dict[int, list[Entry]]:
    """The COCO results in a file, by image id; ``images`` has every id that may occur."""
    found: dict[int, list[Entry]] = {image_id: [] for image_id in images}
    try:
        for item in _read_json(file):
            _, _, width, height = item["bbox"]
            found[int(item["image_id"])].append(_entry(item, float(item["score"]), width * height))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} does not hold COCO results for {GROUND_TRUTH} ({error!r}). Test the model again"
        ) from error
    return found


def _entry(item: Mapping[str, Any], score: float, area: float) -> Entry:
    x, y, width, height = (float(value) for value in item["bbox"])
    segmentation = item.get("segmentation")
    counts = None if segmentation is None else str(segmentation["counts"])
    return Entry(int(item["category_id"]), (x, y, width, height), score, counts, area)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist. Name the directory of a finished run, or test the model") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}). Test the model again") from error
