"""``task=predict``: a folder of images to Labelme files, COCO results, crops, tables and a report."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePath

from omegaconf import DictConfig

import kemr_lightning
from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.refiner import build_refiner, explicit_parameters
from kemr_lightning.assembly.settings import plain, read_settings
from kemr_lightning.core.contracts import MaskRefiner
from kemr_lightning.core.digests import file_digest, settings_digest
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import shell_word
from kemr_lightning.data.regions import Regions
from kemr_lightning.prediction.inference import Model, usual_tiling
from kemr_lightning.prediction.predict_folder import PredictionRun
from kemr_lightning.prediction.result import PredictionResult
from kemr_lightning.prediction.settings import PredictSettings
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.tasks.closing import report
from kemr_lightning.tasks.progress import track
from kemr_lightning.tasks.start import start
from kemr_lightning.training.checkpoint import load_module

logger = logging.getLogger(__name__)

EARLIER_TARGET = "kemr_lightning.tasks.knowledge.refiner_from_file"

NAMED = 5
"""How many kept files a message names."""


def predict(config: DictConfig) -> None:
    """Predict every image of a folder and write the results into the run directory.

    A run that was interrupted resumes in its directory: images that were finished with the same settings are not
    predicted again.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the folder; it needs no annotations.

    Raises:
        UserError: Something in the configuration, the checkpoint or the folder has to be fixed, or none of the images
            could be predicted.
        SystemExit: With code 130, after Ctrl-C.
    """
    directory = start(config)
    DataFolder.of(config).needed("task=predict works on a folder of images")
    read_settings(config, "predict", PredictSettings)  # a wrong one is said before a model is looked for
    checkpoint = needed_checkpoint(config)
    run = build_run(config, checkpoint, directory)
    with settings_under("data"):
        result = run.predict_images()
    if run.model.missed:
        logger.warning("predict.tile=SIDE gives smaller tiles, with fewer chromosomes in each")
    if result.interrupted:
        count = len(result.finished)
        logger.warning("interrupted: %d of %d images are done. To resume: the same command with", count, result.total)
        logger.warning("%s", shell_word("hydra.run.dir", directory))
        raise SystemExit(130)
    try:
        run.write_files(result, f"{run.root} with {checkpoint.name}")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write the run's files into {directory}: {reason}. Fix that and give the same command again with "
            f"{shell_word('hydra.run.dir', directory)}: images that are done stay done"
        ) from error
    _tell(result, run.settings.beside)
    if not result.finished:
        reason = result.failures[0].reason
        raise UserError(f"none of the {result.total} images in {run.root} could be done: {reason}")
    report(config, directory, checkpoint, len(run.model.label_names))


def build_run(config: DictConfig, checkpoint: Path, directory: Path) -> PredictionRun:
    """Build what predicts the folder.

    Args:
        config: The composed configuration.
        checkpoint: The model's file.
        directory: The run directory.

    Raises:
        UserError: A setting, the checkpoint or the knowledge file is wrong.
    """
    settings = read_settings(config, "predict", PredictSettings)
    data = DataFolder.of(config)
    module = load_module(checkpoint)
    module.look_in(config.views)
    refiner = build_refiner(config, checkpoint)
    with settings_under("predict", side="tile"):
        tiling = settings.tiling(usual_tiling(module))
    return PredictionRun(
        model=Model(module, refiner, tiling).to(device_of(config)),
        root=data.needed("task=predict works on a folder of images"),
        directory=directory,
        settings=settings,
        key=run_key(config, settings, checkpoint, refiner),
        data_format=data.data_format,
        label_map=data.label_map,
        regions=data.regions,
        reading=data.reading,
        progress=partial(track, description="Predicting", name=lambda item: PurePath(item.name).name),
    )


def run_key(config: DictConfig, settings: PredictSettings, checkpoint: Path, refiner: MaskRefiner | None) -> str:
    """What finished images depend on besides their files: model, refinement, settings, version.

    Runs that earlier versions of the code began can be resumed only as long as this does not change.

    Args:
        config: The composed configuration.
        settings: Its ``predict`` node.
        checkpoint: The model's file.
        refiner: What `build_refiner` has built.

    Returns:
        A digest.
    """
    knowledge = config.get("knowledge")
    refinement = None if config.refine is None else plain(config.refine)
    if isinstance(refiner, KnowledgeRefiner):
        # The form in which version 0.1.0 held a refiner of knowledge.
        used = {name: value for name, value in (refinement or {}).items() if name in ("engine", "tolerance")}
        explicit = explicit_parameters(config)
        refinement = {"_target_": EARLIER_TARGET, "path": str(knowledge), "explicit": explicit, **used}
    regions = DataFolder.of(config).regions
    return settings_digest(
        kemr_lightning.__version__,
        file_digest(checkpoint),
        None if knowledge is None else file_digest(Path(knowledge)),
        refinement,
        asdict(settings),
        str(plain(config.data.get("label_map"))),  # as given, numbers included
        *([] if config.views == 1 else [config.views]),
        *([] if regions == Regions() else [str(regions)]),
        *([] if config.data.get("channel") is None else [{"channel": str(config.data.channel)}]),
    )


def _tell(result: PredictionResult, beside: bool) -> None:
    """Log what became of the images."""
    again = f" ({result.resumed} were finished before)" if result.resumed else ""
    count = len(result.finished)
    logger.info("%d of %d images done%s, %d chromosomes", count, result.total, again, result.chromosomes)
    kept = [file.name for file in result.kept]
    if kept:
        why = "were there before or have been edited" if beside else "have been edited, or the states do not know them"
        names = ", ".join(kept[:NAMED]) + (", ..." if len(kept) > NAMED else "")
        logger.warning("%d Labelme files %s: left as they are (predict.overwrite=true): %s", len(kept), why, names)
    for failure in result.failures:
        logger.warning("could not be done: %s: %s", failure.name, failure.reason)
