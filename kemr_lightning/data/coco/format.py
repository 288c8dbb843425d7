"""COCO as an annotation format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation_format import Format, WriteOptions, Writer
from kemr_lightning.data.coco.diagnose import diagnose_coco
from kemr_lightning.data.coco.source import CocoSource
from kemr_lightning.data.coco.write import CocoWriter
from kemr_lightning.data.faults import SHOWN
from kemr_lightning.data.record import Record
from kemr_lightning.data.survey import Survey

log = logging.getLogger(__name__)


class CocoFormat(Format):
    """Images and one JSON for each part."""

    name = "coco"
    config = "coco"

    def source(self, root: Path) -> CocoSource:
        """See `Format.source`."""
        return CocoSource(root)

    def inputs(
        self,
        root: Path,
        apart: Callable[[Path], bool] = lambda _: False,  # noqa: ARG002
        written: Callable[[Path], bool] = lambda _: False,  # noqa: ARG002
    ) -> list[Record]:
        """See `Format.inputs`. Entries that can be read are used even if others of the same file cannot."""
        try:
            source = CocoSource(root)
        except UserError as error:
            log.warning("%s. The images are predicted without annotations.", str(error).removesuffix("."))
            return []
        records: dict[Path, Record] = {}
        faults: list[str] = []
        for part in source.parts:
            readable, wrong = source.readable(part)
            records |= {record.path: record for record in readable}
            faults += wrong
        for fault in faults[:SHOWN]:
            log.warning("%s It is left out.", fault)
        if len(faults) > SHOWN:
            log.warning("%s: %d more faults in the COCO files, left out", root, len(faults) - SHOWN)
        return list(records.values())

    def diagnose(self, root: Path) -> Survey:
        """See `Format.diagnose`."""
        return diagnose_coco(root)

    def writer(self, folder: Path, label_names: Sequence[str], options: WriteOptions) -> Writer:
        """See `Format.writer`. Each part has one file."""
        return CocoWriter(folder, label_names, options)
