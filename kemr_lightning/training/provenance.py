"""Where a result comes from: the checkpoint and the images it was made with."""

from __future__ import annotations

from pathlib import Path

from kemr_lightning.core.digests import remembered_digest


def provenance(checkpoint: str | Path, data: str | Path, part: str) -> dict[str, str]:
    """Describe the origin of something learned or scored, as knowledge files record it.

    Args:
        checkpoint: The model's file.
        data: The data root, whose last component is recorded, or a name for the data.
        part: Which of its images: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.

    Returns:
        ``checkpoint`` (the file's name), ``checkpoint_sha256`` and ``data``.

    Raises:
        OSError: The checkpoint cannot be read.
    """
    return {
        "checkpoint": Path(checkpoint).name,
        "checkpoint_sha256": remembered_digest(checkpoint),
        "data": f"{Path(data).name}, {part} images",
    }
