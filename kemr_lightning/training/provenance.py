"""Where a result comes from: the checkpoint and the images that it was made with."""

from __future__ import annotations

from pathlib import Path

from kemr_lightning.core.digests import remembered_digest


def provenance(checkpoint: str | Path, data: str | Path, part: str) -> dict[str, str]:
    """The origin of something learned or scored, as knowledge files record it.

    Args:
        checkpoint: The model's file.
        data: The data root, of which the last name is recorded, or what the data are called.
        part: Which images of it: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.

    Returns:
        ``checkpoint`` (the file's name), ``checkpoint_sha256``, ``data``.
    """
    return {
        "checkpoint": Path(checkpoint).name,
        "checkpoint_sha256": remembered_digest(checkpoint),
        "data": f"{Path(data).name}, {part} images",
    }
