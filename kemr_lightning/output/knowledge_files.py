"""The knowledge that a run has used or found, as files of the run and as an artifact of its W&B run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import write_text
from kemr_lightning.core.run_directory import KNOWLEDGE, KNOWLEDGE_TEXT
from kemr_lightning.output.wandb_run import log_files
from kemr_lightning.refinement.knowledge import Knowledge


def write_knowledge(knowledge: Knowledge, directory: Path) -> list[Path]:
    """Write ``knowledge.safetensors``, and its description for people as ``knowledge.txt``.

    Args:
        knowledge: The knowledge.
        directory: The run directory.

    Returns:
        The two files.
    """
    files = [directory / KNOWLEDGE, directory / KNOWLEDGE_TEXT]
    knowledge.save(files[0])
    write_text(files[1], knowledge.describe() + "\n")
    return files


def log_knowledge(run: Any, knowledge: Knowledge, files: Sequence[Path]) -> None:
    """Log knowledge to W&B as an artifact.

    Args:
        run: The W&B run.
        knowledge: The knowledge, which the artifact's description and metadata describe.
        files: The files that hold it.
    """
    actions = {action.name: asdict(action.params) for action in knowledge.actions}
    metadata = {"actions": actions, "origin": knowledge.origin}
    log_files(run, files, "knowledge", "knowledge", knowledge.describe(), metadata)
