"""The data folder that a configuration names, for tasks that read its settings themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kemr_lightning.assembly.settings import plain
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.data.folder import READ_SUFFIXES, check_links
from kemr_lightning.data.formats import DEFAULT
from kemr_lightning.data.image import DEFAULT_READING, MAX_PIXELS, Reading
from kemr_lightning.data.labels import LabelMap, as_label_map, text_of
from kemr_lightning.data.parts import Lists
from kemr_lightning.data.regions import Regions
from kemr_lightning.data.split import GROUP_PATTERN

REGIONS = ("crowds", "ignore_labels", "groups")
"""Settings of ``data`` that `Regions` takes."""

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
        resize: What ``data.resize`` says: ``[width, height]`` or None.
        scale: What ``data.scale`` says.
        regions: Which annotations are instances.
        follow_links: Whether links that lead out of the folder are followed.
        reading: How the images are read.
    """

    root: str | None
    data_format: str
    label_map: LabelMap
    group_pattern: str
    lists: Lists | None
    resize: Any
    reading: Reading = DEFAULT_READING
    scale: str | None = None
    regions: Regions = field(default_factory=Regions)
    follow_links: bool = False

    @classmethod
    def of(cls, config: DictConfig) -> DataFolder:
        """The data folder of a configuration.

        Args:
            config: The composed configuration: its ``data``.

        Raises:
            SettingError: A setting of how images are read makes no sense.
        """
        data = config.data
        root = data.get("root")
        with settings_under("data"):
            label_map = _as_names(as_label_map(plain(data.get("label_map"))))
            regions = Regions(**{key: value for key in REGIONS if (value := plain(data.get(key))) is not None})
            reading = Reading(data.get("channel"), data.get("max_pixels", MAX_PIXELS))
        return cls(
            root=None if root is None else str(root),
            data_format=data.get("format", DEFAULT),
            label_map=label_map,
            group_pattern=str(data.get("group_pattern", GROUP_PATTERN)),
            lists=plain(data.get("lists")),
            resize=plain(data.get("resize")),
            reading=reading,
            scale=data.get("scale"),
            regions=regions,
            follow_links=bool(data.get("follow_links", False)),
        )

    @property
    def name(self) -> str:
        """The folder, or `SYNTHETIC` without one."""
        return SYNTHETIC if self.root is None else self.root

    def needed(self, what: str) -> Path:
        """The folder, for a task that works on nothing else. Its links are checked.

        Args:
            what: Which task needs it and for what: ``"task=doctor looks at a folder"``.

        Raises:
            UserError: There is none, or a link in it leads out of it.
        """
        if self.root is None:
            raise UserError(f"{what}. Name it: data=labelme data.root=DIR")
        root = Path(self.root)
        if root.is_dir():
            with settings_under("data"):
                check_links(root, self.follow_links, READ_SUFFIXES)
        return root


def _as_names(label_map: LabelMap) -> LabelMap:
    """A mapping with texts for whole numbers; old names that stand for several texts stay as they are."""
    if not isinstance(label_map, dict):
        return label_map
    return {
        old if isinstance(old, float | bool) else text_of(old): None if new is None else text_of(new)
        for old, new in label_map.items()
    }
