"""Class names: how a label map renames them, and the order that gives them their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation import EVERY_CLASS
from kemr_lightning.data.folder import read_text
from kemr_lightning.data.record import Record

SINGLE = "chromosome"
"""Name of the only class when all classes are merged."""

LabelMap = str | Mapping[Any, Any] | None
"""``"single"``: all classes become `SINGLE`. None: they stay as they are. A mapping: new names, None drops a class.

Names are texts. A number or truth value in a mapping, as YAML and Hydra make of ``1``, ``1e5`` and ``on``, stands for
its text, and as an old name also for every other text that they read as the same value.
"""

_NULLS = ("", "~", "null", "Null", "NULL")
"""What drops a class in a file of names, unless it stands in quotes."""


def as_label_map(value: Any) -> LabelMap:
    """A label map from a setting.

    Args:
        value: A `LabelMap`, or the path of a YAML or JSON file with a mapping.

    Raises:
        SettingError: It is none of these.
        UserError: The file cannot be read.
    """
    if value is None or isinstance(value, Mapping):
        return value
    if value == "single":
        return "single"
    cure = "Use single, null, a mapping of names, or a YAML file that holds one"
    if not isinstance(value, str | Path):
        raise SettingError("label_map", value, "is not a label map", cure)
    path = Path(value)
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise SettingError("label_map", value, "is unknown", cure)
    if not path.is_file():
        raise SettingError("label_map", value, "is not a file", cure)
    return read_label_map(path)


def read_label_map(path: Path) -> dict[str, str | None]:
    """The mapping in a YAML or JSON file; every name is taken as it is written, whatever YAML would make of it.

    Args:
        path: The file: ``old: new`` on each line.

    Returns:
        New names by old ones; None, for an empty one or ``null``, drops a class.

    Raises:
        UserError: The file cannot be read or holds something else.
    """
    try:
        node = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML ({' '.join(str(error).split())[:120]}). Write old: new lines") from error
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path} holds no mapping of names. Write a line old: new for each label")
    names: dict[str, str | None] = {}
    for old, new in node.value:
        if not isinstance(old, yaml.ScalarNode) or not isinstance(new, yaml.ScalarNode):
            raise UserError(f"{path}, line {old.start_mark.line + 1}: not one name for one label. Write old: new")
        if old.value in names:
            raise UserError(f"{path} names the label {old.value!r} twice. Leave one of the lines out")
        names[old.value] = None if new.style is None and new.value in _NULLS else new.value
    return names


def text_of(value: object) -> str:
    """The name that a value of YAML stands for; truth values are spelt as YAML spells them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    label_map = as_label_map(label_map)
    if label_map is None:
        return {label: label for label in labels}
    if isinstance(label_map, str):
        return dict.fromkeys(labels, SINGLE)
    written = {text_of(old): None if new is None else text_of(new) for old, new in label_map.items()}
    # `1 == True` in Python, so the kind belongs to the key.
    values = {_kind(old): new for old, new in label_map.items() if not isinstance(old, str)}
    found: dict[str, str | None] = {}
    for label in labels:
        if label in written:
            found[label] = written[label]
        elif values and (kind := _kind(_read(label))) in values:
            found[label] = None if values[kind] is None else text_of(values[kind])
    return found


def _kind(value: object) -> tuple[bool, object]:
    return isinstance(value, bool), value


def _read(label: str) -> object:
    """The number or truth value that YAML or Hydra reads in a text; the text itself if there is none."""
    try:
        value = yaml.safe_load(label)
    except (yaml.YAMLError, ValueError):
        return label
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return label
    return value if isinstance(value, bool | int | float) else label


def map_labels(records: Sequence[Record], label_map: LabelMap) -> list[Record]:
    """Rename the classes of all annotations; crowds of all classes stay.

    Args:
        records: Records; those without annotations stay without.
        label_map: See `LabelMap`.

    Raises:
        SettingError: As `new_names`, or a mapping does not name a class.
    """
    names = new_names(labels_of(records), label_map)
    names[EVERY_CLASS] = EVERY_CLASS
    renamed = []
    for record in records:
        annotations = record.annotations or ()
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
    names = [text_of(name) for name in label_map] if isinstance(label_map, Mapping) else [str(label_map)]
    return "{" + ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") + "}"


def label_order(name: str) -> tuple[int, int, str]:
    """Sorting key of class names: numbers by value, then all others alphabetically (1, 2, ... 22, X, Y)."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def labels_of(records: Sequence[Record]) -> list[str]:
    """The labels that occur, those of crowds included, sorted by `label_order`."""
    names = {annotation.label for record in records for annotation in record.annotations or ()}
    return sorted(names - {EVERY_CLASS}, key=label_order)


def names_of(records: Sequence[Record]) -> list[str]:
    """The class names of instances, sorted by `label_order`."""
    names = {a.label for record in records for a in record.annotations or () if not a.crowd}
    return sorted(names, key=label_order)
