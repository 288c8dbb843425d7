"""The annotation formats by name. A new format is a new file with a `Format`, and a line here.

Code outside the package can add a format of its own before it starts a task: ``FORMATS["mine"] = MyFormat()``; then
``data.format=mine`` reads it.
"""

from __future__ import annotations

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.annotation_format import Format
from kemr_lightning.data.coco.format import CocoFormat
from kemr_lightning.data.exports.cvat import CvatFormat
from kemr_lightning.data.exports.label_studio import LabelStudioFormat
from kemr_lightning.data.exports.voc import VocFormat
from kemr_lightning.data.exports.yolo import YoloFormat
from kemr_lightning.data.labelme.format import LabelmeFormat

FORMATS: dict[str, Format] = {
    "labelme": LabelmeFormat(),
    "coco": CocoFormat(),
    "voc": VocFormat(),
    "yolo": YoloFormat(),
    "cvat": CvatFormat(),
    "label_studio": LabelStudioFormat(),
}
"""All formats."""

DEFAULT = "labelme"
"""Name of the format that is meant if none is named."""


def written() -> list[str]:
    """The names of the formats that can be written."""
    return [name for name, each in FORMATS.items() if type(each).writer is not Format.writer]


def format_named(name: str, setting: str = "format") -> Format:
    """The format of a name.

    Args:
        name: A key of `FORMATS`.
        setting: The setting that the name comes from, for the error.

    Raises:
        SettingError: There is no such format.
    """
    if name not in FORMATS:
        raise SettingError(setting, name, "is unknown", f"Use one of {', '.join(sorted(FORMATS))}")
    return FORMATS[name]
