"""The knowledge that refined a test's masks, kept with the run and as an artifact in W&B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from kemr_lightning.callbacks.refinement import refinement_of
from kemr_lightning.core.files import write_text
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.run_directory import KNOWLEDGE, KNOWLEDGE_TEXT
from kemr_lightning.output.wandb_run import attempt, log_files, run_of
from kemr_lightning.refinement.knowing_refiner import KnowingRefiner
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.refiner import Refiner


class KnowledgeCallback(pl.Callback):
    """Writes ``knowledge.safetensors`` and ``knowledge.txt`` after a test, and logs them to W&B as an artifact.

    It is the knowledge that was in use: the given file's (with what the command line changed), or the configured CRF
    as knowledge without experiences. Nothing is written without a refiner, or for one that no file can hold.

    Args:
        directory: The run directory; None for the trainer's ``default_root_dir``.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = None if directory is None else Path(directory)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        knowledge = knowledge_of(refinement_of(trainer).refiner)
        if knowledge is None or not trainer.is_global_zero:
            return
        directory = self.directory or Path(trainer.default_root_dir)
        knowledge.save(directory / KNOWLEDGE)
        write_text(directory / KNOWLEDGE_TEXT, knowledge.describe() + "\n")
        run = run_of(trainer)
        if run is not None:
            attempt(lambda: log_knowledge(run, knowledge, [directory / KNOWLEDGE, directory / KNOWLEDGE_TEXT]))


def knowledge_of(refiner: Callable[[Tensor, Instances], Instances] | None) -> Knowledge | None:
    """The knowledge a refiner works with.

    Args:
        refiner: A refiner, or None.

    Returns:
        The knowledge; None if there is none, or if a file cannot hold it (``refine.outside``).
    """
    if isinstance(refiner, KnowingRefiner):
        return refiner.knowledge
    if isinstance(refiner, Refiner) and refiner.outside == 0:
        return replace(from_params(refiner.params, {"found_by": "the configuration"}), margin=refiner.margin)
    return None


def log_knowledge(run: Any, knowledge: Knowledge, files: list[Path]) -> None:
    """Log knowledge to W&B as an artifact.

    Args:
        run: The W&B run.
        knowledge: For the artifact's description and metadata.
        files: What it consists of.
    """
    actions = {action.name: asdict(action.params) for action in knowledge.actions}
    metadata = {"actions": actions, "origin": knowledge.origin}
    log_files(run, files, "knowledge", "knowledge", knowledge.describe(), metadata)
