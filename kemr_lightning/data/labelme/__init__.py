"""Labelme's JSON: versions 3 to 6 and AutoKary2022's dialect, read and written.

`parse_labelme` parses a file, `load_image` finds and decodes its image, and `read_labelme` does both and rasterises the
annotations. What to do with odd shapes is left to the caller: `LabelmeFile.skipped` counts them.

Coordinates are pixel corners: Labelme draws pixel (0, 0) on [0, 1) x [0, 1). They refer to the upright image, because
Labelme applies the EXIF orientation when it opens a file. Embedded images are upright already and are shown as stored.
Files of other tools that do it the other way round are recognised by their stated width and height.
"""

from kemr_lightning.data.labelme.parse import LabelmeFile, NotLabelmeError, is_labelme, parse_labelme
from kemr_lightning.data.labelme.read import (
    LabelmeImage,
    LabelmeInstances,
    check_image,
    embedded_image,
    find_image,
    load_image,
    read_labelme,
)
from kemr_lightning.data.labelme.write import labelme_text, write_labelme
from kemr_lightning.data.record import MissingImageError

__all__ = [
    "LabelmeFile",
    "LabelmeImage",
    "LabelmeInstances",
    "MissingImageError",
    "NotLabelmeError",
    "check_image",
    "embedded_image",
    "find_image",
    "is_labelme",
    "labelme_text",
    "load_image",
    "parse_labelme",
    "read_labelme",
    "write_labelme",
]
