"""``task=predict``: a folder of images to Labelme files, COCO results, crops, tables and a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import kemr_lightning
from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.core.digests import file_digest, settings_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import remove_unfinished
from kemr_lightning.data.labels import LabelMap
from kemr_lightning.prediction.image_files import ImageWriter, options_of
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inference import Model, usual_tiling
from kemr_lightning.prediction.inputs import Input, find_inputs
from kemr_lightning.prediction.run_files import Failure, write_run_files
from kemr_lightning.prediction.tiling import Tiling
from kemr_lightning.tasks.closing import report
from kemr_lightning.tasks.start import start
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.training.module import SegmentationModule

logger = logging.getLogger(__name__)

ABANDONED = 3600.0
"""Seconds after which an unfinished file among the user's images is nobody's any more."""

SECONDS_BETWEEN_LINES = 30.0

NAMED = 5
"""How many kept files a message names."""


def predict(config: DictConfig) -> None:
    """Predict every image of a folder and write the results into the run directory.

    A run that was interrupted goes on in its directory: images that are finished, by the same settings, are not done
    again.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the folder; it needs no annotations.

    Raises:
        UserError: Something in the configuration, the checkpoint or the folder has to be mended, or no image at all
            could be done.
    """
    directory = start(config)
    if config.data.get("root") is None:
        raise UserError("task=predict works on a folder of images. Name it: data=labelme data.root=DIR")
    root = Path(config.data.root)
    checkpoint = needed_checkpoint(config)
    options = options_of(dict(OmegaConf.to_container(config.predict, resolve=True)))  # type: ignore[arg-type]
    module = load_module(checkpoint)
    refiner = build_refiner(config, checkpoint)
    model = Model(module, refiner, tiling_of(config, module)).to(device_of(config))
    remove_unfinished(directory)
    if options.beside:
        remove_unfinished(root, ABANDONED)  # other runs may be writing there now
    states = StateFolder(directory, run_key(config, checkpoint))
    memory = states.memory()
    # What this run has written beside the images is no annotation when it goes on, until somebody edits it.
    inputs = find_inputs(root, config.data.get("format", "labelme"), [directory], memory.wrote, memory.stems)
    writer = ImageWriter(directory, root, states, module.label_names, options)
    label_map = label_map_of(config)
    done: list[tuple[str, ImageState]] = []
    failures: list[Failure] = []
    skipped = 0
    try:
        for number, item in enumerate(_progress(inputs), start=1):
            try:
                state = states.finished(item.stem, item.version())
                if state is not None:
                    skipped += 1
                    done.append((item.stem, state.numbered(number, item.image_name)))
                    continue
                done.append((item.stem, _predict_one(item, number, model, writer, label_map)))
            except (UserError, OSError) as error:
                failures.append(Failure(item.name, " ".join(str(error).split())))
            except Exception as error:
                # A fault of the program in one image should not cost the others; the log has where it came from.
                logger.exception("%s could not be done", item.name)
                failures.append(Failure(item.name, f"{type(error).__name__}: {' '.join(str(error).split())}"))
    except KeyboardInterrupt:
        logger.warning("interrupted: %d of %d images are done. To go on: the same command with", len(done), len(inputs))
        logger.warning("hydra.run.dir=%s", directory)
        raise SystemExit(130) from None
    title = f"{root} with {checkpoint.name}"
    try:
        write_run_files(directory, done, failures, module.label_names, options, title, states)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write the run's files into {directory}: {reason}. Mend that and give the same command again with "
            f"hydra.run.dir={directory}: images that are done stay done"
        ) from error
    _tell(inputs, done, failures, skipped, options.beside)
    if not done:
        raise UserError(f"none of the {len(inputs)} images in {root} could be done: {failures[0].reason}")
    report(config, directory, checkpoint, len(module.label_names))


def _predict_one(item: Input, number: int, model: Model, writer: ImageWriter, label_map: LabelMap) -> ImageState:
    # Some decoders hand out memory that must not be written to, which PyTorch warns about.
    loaded = item.load()
    pixels = np.require(loaded.pixels, requirements="W")
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    truth = item.truth(model.label_names, label_map, size, loaded.orientation)
    start = time.perf_counter()
    prediction = model(torch.from_numpy(pixels), item.name)
    return writer.write(item, number, pixels, prediction, truth, time.perf_counter() - start)


def run_key(config: DictConfig, checkpoint: Path) -> str:
    """What finished images depend on besides their files: model, refinement, options, version."""
    knowledge = config.get("knowledge")
    return settings_digest(
        kemr_lightning.__version__,
        file_digest(checkpoint),
        None if knowledge is None else file_digest(Path(knowledge)),
        OmegaConf.to_container(config.refine, resolve=True) if config.refine is not None else None,
        OmegaConf.to_container(config.predict, resolve=True),
        str(config.data.get("label_map")),
    )


def label_map_of(config: DictConfig) -> LabelMap:
    """``data.label_map`` as plain values."""
    given = config.data.get("label_map")
    if not isinstance(given, DictConfig):
        return None if given is None else str(given)
    return {str(name): None if new is None else str(new) for name, new in given.items()}


def tiling_of(config: DictConfig, module: SegmentationModule) -> Tiling | None:
    """How ``predict.tile`` cuts large images: ``auto``, a side in pixels, or null for never.

    Raises:
        UserError: It is something else.
    """
    tile, overlap = config.predict.tile, config.predict.overlap
    if tile is None:
        return None
    if tile == "auto":
        usual = usual_tiling(module)
        return None if usual is None else Tiling(usual.side, overlap)
    if isinstance(tile, bool) or not isinstance(tile, int):
        raise UserError(f"predict.tile={tile} is no size. Give auto, a number of pixels, or null")
    return Tiling(tile, overlap)


def _progress(inputs: Sequence[Input]) -> Iterator[Input]:
    """The inputs one by one, with a bar in a terminal and a line now and then elsewhere."""
    console = get_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    last = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Predicting", total=len(inputs))
        for number, item in enumerate(inputs, start=1):
            progress.update(task, description=Path(item.name).name[-30:])
            yield item
            progress.advance(task)
            if not console.is_terminal and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                logger.info("%d of %d images", number, len(inputs))


def _tell(
    inputs: Sequence[Input],
    done: Sequence[tuple[str, ImageState]],
    failures: Sequence[Failure],
    skipped: int,
    beside: bool,
) -> None:
    """Log what became of the images."""
    count = sum(len(state.written) for _, state in done)
    again = f" ({skipped} were finished before)" if skipped else ""
    logger.info("%d of %d images done%s, %d chromosomes", len(done), len(inputs), again, count)
    kept = [Path(state.labelme).name for _, state in done if state.digest is None and Path(state.labelme).is_file()]
    if kept:
        why = "were there before or have been edited" if beside else "have been edited, or the states do not know them"
        names = ", ".join(kept[:NAMED]) + (", ..." if len(kept) > NAMED else "")
        logger.warning("%d Labelme files %s: left as they are (predict.overwrite=true): %s", len(kept), why, names)
    for failure in failures:
        logger.warning("could not be done: %s: %s", failure.name, failure.reason)
