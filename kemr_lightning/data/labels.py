"""Class names: how a label map renames them, and the order that gives them their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.record import Record

SINGLE = "chromosome"
"""Name of the only class when all classes are merged."""

LabelMap = str | Mapping[str, str | None] | None
"""``"single"``: all classes become `SINGLE`. None: they stay as they are. A mapping: new names, None drops a class."""


def new_names(labels: Iterable[str], label_map: LabelMap) -> dict[str, str | None]:
    """What a label map makes of each label.

    Args:
        labels: Class names of the annotations.
        label_map: See `LabelMap`.

    Returns:
        New names by old ones; None for a class that is dropped. Labels that a mapping does not name are missing.

    Raises:
        SettingError: ``label_map`` is neither ``"single"`` nor None nor a mapping.
    """
    if label_map is None:
        return {label: label for label in labels}
    if isinstance(label_map, str):
        if label_map != "single":
            raise SettingError("label_map", label_map, "is unknown", "Use single, null or a mapping of names")
        return dict.fromkeys(labels, SINGLE)
    # Class names may be numbers, which YAML and Hydra read as such.
    renamed = {str(old): None if new is None else str(new) for old, new in label_map.items()}
    return {label: renamed[label] for label in labels if label in renamed}


def map_labels(records: Sequence[Record], label_map: LabelMap) -> list[Record]:
    """Rename the classes of all annotations.

    Args:
        records: Records; those without annotations stay without.
        label_map: See `LabelMap`.

    Raises:
        SettingError: As `new_names`, or a mapping does not name a class.
    """
    renamed = []
    for record in records:
        annotations = record.annotations or ()
        names = new_names((annotation.label for annotation in annotations), label_map)
        for annotation in annotations:
            if annotation.label not in names:
                raise SettingError(
                    "label_map",
                    _shortened(label_map),
                    f"does not name the label {annotation.label!r} of {record.name}",
                    "Add it (null drops a label)",
                )
        kept = [replace(a, label=name) for a in annotations if (name := names[a.label]) is not None]
        renamed.append(replace(record, annotations=None if record.annotations is None else tuple(kept)))
    return renamed


def _shortened(label_map: LabelMap) -> str:
    """The first few names of a mapping, for a message."""
    names = [str(name) for name in label_map] if isinstance(label_map, Mapping) else [str(label_map)]
    return "{" + ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") + "}"


def label_order(name: str) -> tuple[int, int, str]:
    """Sorting key of class names: numbers by value, then all others alphabetically (1, 2, ... 22, X, Y)."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def names_of(records: Sequence[Record]) -> list[str]:
    """The class names that occur, sorted by `label_order`."""
    names = {annotation.label for record in records for annotation in record.annotations or ()}
    return sorted(names, key=label_order)
