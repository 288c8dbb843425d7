"""``task=doctor``: what is wrong with a data set, as a table, ``doctor.json`` and ``doctor.html``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.errors import SettingError, UserError, settings_under
from kemr_lightning.core.run_directory import DOCTOR, DOCTOR_PAGE
from kemr_lightning.data.formats import DEFAULT
from kemr_lightning.data.split import GROUP_PATTERN
from kemr_lightning.doctor import Options, examine
from kemr_lightning.doctor.diagnosis_table import print_diagnosis, write_diagnosis
from kemr_lightning.doctor.page import write_page
from kemr_lightning.tasks.progress import track
from kemr_lightning.tasks.start import start


@dataclass(frozen=True)
class DoctorSettings:
    """What to examine, and how much to show.

    Attributes:
        root: The data folder.
        data_format: Name of its format.
        options: What the data set is checked against.
        pictures: Pictures of each kind of finding in the page.
        listed: Findings of each kind that the terminal lists.
    """

    root: Path
    data_format: str
    options: Options
    pictures: int
    listed: int

    @classmethod
    def of(cls, config: DictConfig) -> DoctorSettings:
        """The settings of a configuration.

        Raises:
            UserError: The data folder is not given, or a value of ``doctor`` is out of range.
        """
        data, settings = config.data, config.doctor
        if data.get("root") is None:
            raise UserError("task=doctor looks at a folder. Name it: data=labelme data.root=DIR")
        for name in ("expected", "count_margin", "pictures", "listed"):
            value = settings[name]
            if (not isinstance(value, int) or value < 0) and not (name == "expected" and value is None):
                raise SettingError(f"doctor.{name}", value, "is no number", "Give a whole number from 0")
        if not 0 <= settings.anchor_misfits <= 1:
            value = settings.anchor_misfits
            raise SettingError("doctor.anchor_misfits", value, "is no share", "Give a number from 0 to 1")
        options = Options(
            label_map=_plain(data.get("label_map")),
            group_pattern=data.get("group_pattern", GROUP_PATTERN),
            expected=settings.expected,
            count_margin=settings.count_margin,
            resize=_plain(data.get("resize")),
            anchor_sizes=_plain(config.model.get("anchor_sizes")),
            aspect_ratios=_plain(config.model.get("aspect_ratios")),
            anchor_misfits=settings.anchor_misfits,
            lists=_plain(data.get("lists")),
        )
        pictures, listed = int(settings.pictures), int(settings.listed)
        return cls(Path(data.root), data.get("format", DEFAULT), options, pictures, listed)


def doctor(config: DictConfig) -> None:
    """Examine a data set and write what is wrong with it into the run directory.

    Args:
        config: The composed configuration. ``data.root`` and ``data.format`` say what to look at; ``data.label_map``,
            ``data.group_pattern``, ``data.lists``, ``data.resize`` and ``model`` what it would be used with.

    Raises:
        UserError: The folder is missing, or something in the configuration is wrong.
        SystemExit: With code 1, if the data set has errors.
    """
    directory = start(config)
    settings = DoctorSettings.of(config)
    progress = functools.partial(track, description="Examining")
    with settings_under("data", data_format="format"):
        diagnosis = examine(settings.root, settings.data_format, settings.options, progress)
    write_diagnosis(directory / DOCTOR, diagnosis)
    write_page(directory / DOCTOR_PAGE, diagnosis, settings.pictures)
    print_diagnosis(diagnosis, directory, settings.listed)
    if diagnosis.failed:
        raise SystemExit(1)


def _plain(value: Any) -> Any:
    """A configuration node as plain Python."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
