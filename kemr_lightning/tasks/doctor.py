"""``task=doctor``: what is wrong with a data set, as a table, ``doctor.json`` and ``doctor.html``."""

from __future__ import annotations

import dataclasses
import functools

from omegaconf import DictConfig

from kemr_lightning.assembly.annotation_notices import SCORED, found_key, found_limit, scored_limit
from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.settings import plain, read_settings
from kemr_lightning.core.errors import settings_under
from kemr_lightning.core.run_directory import DOCTOR, DOCTOR_PAGE
from kemr_lightning.doctor import Options, SettingNames, examine
from kemr_lightning.doctor.diagnosis_table import print_diagnosis, write_diagnosis
from kemr_lightning.doctor.page import write_page
from kemr_lightning.doctor.settings import DoctorSettings
from kemr_lightning.tasks.progress import track
from kemr_lightning.tasks.start import start

NAMES = SettingNames(
    root="data.root",
    data_format="data",
    label_map="data.label_map",
    group_pattern="data.group_pattern",
    lists="data.lists",
    channel="data.channel",
    resize="data.resize",
    anchor_sizes="model.anchor_sizes",
    aspect_ratios="model.aspect_ratios",
    crowds="data.crowds",
    groups="data.groups",
    ignore_labels="data.ignore_labels",
    max_detections=SCORED,
)
"""The data's format is chosen by the group ``data``."""


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
    settings = read_settings(config, "doctor", DoctorSettings)
    data = DataFolder.of(config)
    root = data.needed("task=doctor looks at a folder")
    with settings_under("data", data_format="format"):
        diagnosis = examine(
            root, data.data_format, options_of(config, settings), functools.partial(track, description="Examining")
        )
    write_diagnosis(directory / DOCTOR, diagnosis)
    write_page(directory / DOCTOR_PAGE, diagnosis, settings.pictures)
    print_diagnosis(diagnosis, directory, settings.listed)
    if diagnosis.failed:
        raise SystemExit(1)


def options_of(config: DictConfig, settings: DoctorSettings) -> Options:
    """What the data set is checked against.

    Args:
        config: The composed configuration: its ``data`` and ``model``.
        settings: Its ``doctor``.
    """
    data, model = DataFolder.of(config), config.model
    return Options(
        label_map=data.label_map,
        group_pattern=data.group_pattern,
        expected=settings.expected,
        count_margin=settings.count_margin,
        resize=data.resize,
        anchor_sizes=plain(model.get("anchor_sizes")),
        aspect_ratios=plain(model.get("aspect_ratios")),
        anchor_misfits=settings.anchor_misfits,
        lists=data.lists,
        regions=data.regions,
        max_detections=scored_limit(config),
        detections=found_limit(config),
        names=dataclasses.replace(NAMES, detections=found_key(config)),
        reading=data.reading,
    )
