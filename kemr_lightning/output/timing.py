"""How long training and prediction took, as a run has recorded it in ``timing.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kemr_lightning.core.run_directory import TIMING


def read_timing(directory: Path) -> dict[str, Any]:
    """The content of a run directory's ``timing.json``; empty where there is none or it cannot be read."""
    try:
        content = json.loads((directory / TIMING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
