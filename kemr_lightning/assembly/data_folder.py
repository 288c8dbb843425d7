"""The data folder that a configuration names, for tasks that read its settings themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kemr_lightning.assembly.settings import plain
from kemr_lightning.core.errors import UserError
from kemr_lightning.data.formats import DEFAULT
from kemr_lightning.data.labels import LabelMap
from kemr_lightning.data.parts import Lists
from kemr_lightning.data.split import GROUP_PATTERN

SYNTHETIC = "synthetic"
"""What data without a folder are called."""


@dataclass(frozen=True)
class DataFolder:
    """The settings of a data folder, as ``data`` gives them.

    Attributes:
        root: The folder as it was given; None for synthetic images, or where it is not given.
        data_format: Name of its annotation format.
        label_map: Renames the labels; old and new names are texts, also where they were given as numbers.
        group_pattern: Finds an image's group in its name.
        lists: Names of each part's images; None: its folders make the parts.
        resize: What ``data.resize`` says, unchecked: ``[width, height]`` or None.
        scale: What ``data.scale`` says, unchecked.
    """

    root: str | None
    data_format: str
    label_map: LabelMap
    group_pattern: str
    lists: Lists | None
    resize: Any
    scale: str | None = None

    @classmethod
    def of(cls, config: DictConfig) -> DataFolder:
        """The data folder of a configuration.

        Args:
            config: The composed configuration: its ``data``.
        """
        data = config.data
        root = data.get("root")
        return cls(
            root=None if root is None else str(root),
            data_format=data.get("format", DEFAULT),
            label_map=_as_names(plain(data.get("label_map"))),
            group_pattern=str(data.get("group_pattern", GROUP_PATTERN)),
            lists=plain(data.get("lists")),
            resize=plain(data.get("resize")),
            scale=data.get("scale"),
        )

    @property
    def name(self) -> str:
        """The folder, or `SYNTHETIC` without one."""
        return SYNTHETIC if self.root is None else self.root

    def needed(self, what: str) -> Path:
        """The folder, for a task that works on nothing else.

        Args:
            what: Which task needs it and for what: ``"task=doctor looks at a folder"``.

        Raises:
            UserError: There is none.
        """
        if self.root is None:
            raise UserError(f"{what}. Name it: data=labelme data.root=DIR")
        return Path(self.root)


def _as_names(label_map: Any) -> LabelMap:
    if not isinstance(label_map, dict):
        return None if label_map is None else str(label_map)
    return {str(old): None if new is None else str(new) for old, new in label_map.items()}
