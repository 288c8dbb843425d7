"""``timing.json``: how long the parts of a run took, and on what machine."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from kemr_lightning.core.files import write_json
from kemr_lightning.core.run_directory import TIMING


def read_timing(directory: Path) -> dict[str, Any]:
    """The content of a run directory's ``timing.json``; empty if the file is missing or cannot be read."""
    try:
        content = json.loads((directory / TIMING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_timing(
    directory: Path, part: Literal["training", "test"], values: Mapping[str, Any], device: torch.device
) -> None:
    """Write one part of a run directory's ``timing.json``; the other one stays.

    Args:
        directory: The run directory.
        part: The part that was timed.
        values: Its times in seconds, and what they are times of.
        device: The device it ran on.
    """
    content = {**read_timing(directory), "machine": machine(device), part: dict(values)}
    write_json(directory / TIMING, content, indent=1)


def machine(device: torch.device) -> dict[str, Any]:
    """The machine that times were measured on: ``device`` (its name), ``threads`` and ``torch`` (its version)."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
