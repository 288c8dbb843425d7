"""Labelme as an annotation format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kemr_lightning.data.annotation_format import Format, WriteOptions, Writer
from kemr_lightning.data.labelme.diagnose import diagnose_labelme
from kemr_lightning.data.labelme.folder_writer import LabelmeWriter
from kemr_lightning.data.labelme.found_files import labelme_inputs
from kemr_lightning.data.labelme.source import LabelmeSource
from kemr_lightning.data.record import Record
from kemr_lightning.data.survey import Survey


class LabelmeFormat(Format):
    """A JSON file for each image, beside it or with the image embedded; parts are folders."""

    name = "labelme"
    config = "labelme"

    def source(self, root: Path) -> LabelmeSource:
        """See `Format.source`."""
        return LabelmeSource(root)

    def inputs(
        self,
        root: Path,
        apart: Callable[[Path], bool] = lambda _: False,
        written: Callable[[Path], bool] = lambda _: False,
    ) -> list[Record]:
        """See `Format.inputs`."""
        return labelme_inputs(root, apart, written)

    def diagnose(self, root: Path) -> Survey:
        """See `Format.diagnose`."""
        return diagnose_labelme(root)

    def writer(self, folder: Path, label_names: Sequence[str], options: WriteOptions) -> Writer:  # noqa: ARG002
        """See `Format.writer`. The new files lie beside their images."""
        return LabelmeWriter(options)
