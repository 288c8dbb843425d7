"""``task=doctor``: what is wrong with a data set, as a table, ``doctor.json`` and ``doctor.html``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich import get_console
from rich.progress import track

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import DOCTOR, DOCTOR_PAGE
from kemr_lightning.data.split import GROUP_PATTERN
from kemr_lightning.doctor import Options, examine
from kemr_lightning.doctor.gather import Entry
from kemr_lightning.doctor.page import write_page
from kemr_lightning.doctor.table import print_diagnosis, write_diagnosis
from kemr_lightning.tasks.start import start

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


def doctor(config: DictConfig) -> None:
    """Look through a data set and write what is wrong with it into the run directory.

    Args:
        config: The composed configuration. ``data.root`` and ``data.format`` say what to look at, ``data.label_map``,
            ``data.group_pattern``, ``data.lists``, ``data.resize`` and ``model`` what it would be used with.

    Raises:
        UserError: The folder is missing, or something in the configuration is wrong.
        SystemExit: With code 1, where the data set has errors.
    """
    directory = start(config)
    if config.data.get("root") is None:
        raise UserError("task=doctor looks at a folder. Name it: data=labelme data.root=DIR")
    options = options_of(config)
    diagnosis = examine(Path(config.data.root), config.data.get("format", "labelme"), options, _progress)
    write_diagnosis(directory / DOCTOR, diagnosis)
    write_page(directory / DOCTOR_PAGE, diagnosis, int(config.doctor.pictures))
    print_diagnosis(diagnosis, directory, int(config.doctor.listed))
    if diagnosis.failed:
        raise SystemExit(1)


def options_of(config: DictConfig) -> Options:
    """What the data set is judged by.

    Args:
        config: The composed configuration.
    """
    settings = config.doctor
    return Options(
        label_map=_plain(config.data.get("label_map")),
        group_pattern=config.data.get("group_pattern", GROUP_PATTERN),
        expected=settings.expected,
        count_margin=settings.count_margin,
        resize=_plain(config.data.get("resize")),
        anchor_sizes=_plain(config.model.get("anchor_sizes")),
        aspect_ratios=_plain(config.model.get("aspect_ratios")),
        anchor_misfits=settings.anchor_misfits,
        lists=_plain(config.data.get("lists")),
    )


def _plain(value: Any) -> Any:
    """A configuration node as plain Python."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _progress(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The images one by one, with a bar in a terminal and a line now and then elsewhere."""
    console = get_console()
    last = time.monotonic()
    shown = track(entries, "Examining", console=console, disable=not console.is_terminal)
    for number, entry in enumerate(shown, start=1):
        yield entry
        if not console.is_terminal and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            logger.info("%d of %d images", number, len(entries))
