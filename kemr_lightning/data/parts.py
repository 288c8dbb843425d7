"""Which records are used for training, model selection and testing: by folders, by lists, or by a split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation_format import Format, Source
from kemr_lightning.data.copies import equal_files, refuse_copies
from kemr_lightning.data.image import DEFAULT_READING, Reading
from kemr_lightning.data.record import Record
from kemr_lightning.data.split import GROUP_PATTERN, SPLITS, group_of, grouped_split, read_list, select

log = logging.getLogger(__name__)

Lists = Mapping[str, str | Path | Sequence[str] | None]
"""For ``train``, ``val`` and ``test``: names, or a text file of names; None if there is no list."""


def names_listed(lists: Lists) -> dict[str, list[str]]:
    """The names of each list that is given.

    Raises:
        SettingError: A list has an unknown name.
        UserError: A file of names cannot be read or is empty.
    """
    listed = {}
    for part, names in lists.items():
        if names is None:
            continue
        if part not in SPLITS:
            raise SettingError(f"lists.{part}", names, "is not the list of a part", "Use train, val and test")
        listed[part] = read_list(names) if isinstance(names, str | Path) else list(names)
    return listed


class Parts:
    """The records of each part of a data folder.

    The folders ``train/``, ``val/`` and ``test/`` make the parts, unless lists of names replace them. Without a
    validation part, a seeded share of the training images is split off; groups stay together. Without a test part the
    validation images are tested, with a warning. A folder without parts is split like a training part.
    """

    def __init__(
        self,
        root: Path,
        data_format: Format,
        lists: Lists | None = None,
        group_pattern: str = GROUP_PATTERN,
        val_fraction: float = 0.2,
        seed: int = 0,
        reading: Reading = DEFAULT_READING,
    ) -> None:
        """Take the settings; nothing is read yet.

        Args:
            root: The data folder.
            data_format: Of its annotations.
            lists: See `Lists`.
            group_pattern: See `kemr_lightning.data.split.group_of`.
            val_fraction: Share of the images to split off for validation.
            seed: Seed of the split.
            reading: How the images are read.
        """
        self.root = root
        self.format = data_format
        self.lists = {part: names for part, names in (lists or {}).items() if names is not None}
        self.group_pattern = group_pattern
        self.val_fraction = val_fraction
        self.seed = seed
        self.reading = reading
        self._source: Source | None = None
        self._read: dict[str, list[Record]] = {}
        self._told: set[str] = set()
        self._compared = False

    @property
    def known(self) -> bool:
        """Whether the folder has been looked into."""
        return self._source is not None

    def records(self, part: str, whole: bool = False) -> list[Record]:
        """The records of one part, or of the part that replaces it.

        Args:
            part: ``"train"``, ``"val"`` or ``"test"``.
            whole: Test all images of a folder without parts, instead of those split off for validation.

        Raises:
            UserError: The part is missing, a list is wrong, or a file of the folder is broken.
        """
        if self.lists:
            return self._listed(part)
        available = self._available()
        if part != "test":
            self._refuse_copies(available)
        if part in available:
            records = self._part(part)
            return records if part != "train" or "val" in available else self._split(records, f"{part}/")[0]
        if available == ["all"]:
            everything = self._part("all")
            if part == "test" and whole:
                return everything
            if part == "test":
                self._warn_of_no_test()
            return self._split(everything, str(self.root))[part != "train"]
        if part == "test":
            self._warn_of_no_test()
            return self.records("val")
        if part == "val" and "train" in available:
            return self._split(self._part("train"), "train/")[1]
        raise SettingError("root", self.root, f"has no {part}/ part", "Add it, or put all images into one folder")

    def _available(self) -> list[str]:
        if self._source is None:
            self._source = self.format.source(self.root)
        return self._source.parts

    def _part(self, part: str) -> list[Record]:
        """The records of a part of the source, read once."""
        if part not in self._read and self._source is not None:
            self._read[part] = [record.read_as(self.reading) for record in self._source.read(part)]
        return self._read[part]

    def _refuse_copies(self, parts: Sequence[str]) -> None:
        """Refuse an image in two parts, before anything is trained.

        A part that cannot be read is passed over: if it is needed, it will be reported then.
        """
        if self._compared or len(parts) < 2:
            return
        self._compared = True
        readable = {}
        for part in parts:
            try:
                readable[part] = self._part(part)
            except UserError:
                log.debug("%s/ is not compared with the other parts", part, exc_info=True)
        refuse_copies(readable)

    def _warn_of_no_test(self) -> None:
        log.warning("%s has no test/ part: the validation images are reported, which is optimistic.", self.root)

    def _listed(self, part: str) -> list[Record]:
        """The records of a part that lists define."""
        everything = [record for name in self._available() for record in self._part(name)]
        names = [record.name for record in everything]
        chosen: dict[str, list[Record]] = {}
        for listed, wanted in names_listed(self.lists).items():
            positions = select(names, wanted, f"lists.{listed}")
            chosen[listed] = sorted((everything[position] for position in positions), key=lambda record: record.name)
        _refuse_shared(chosen)
        refuse_copies(chosen)
        if part in ("train", "val") and "val" not in chosen and "train" in chosen:
            return self._split(chosen["train"], "the training list")[part == "val"]
        if part == "test" and "test" not in chosen:
            log.warning("there is no list for test: the validation images are reported, which is optimistic.")
            return self._listed("val")
        if part not in chosen:
            raise SettingError(f"lists.{part}", None, "names no image", f"Name those for {part}")
        return chosen[part]

    def _split(self, records: list[Record], where: str) -> tuple[list[Record], list[Record]]:
        """Split records into those for training and those for validation.

        Args:
            records: Sorted by name.
            where: Where they come from, for log lines.
        """
        groups = [record.group or group_of(record.name, self.group_pattern) for record in records]
        if len(set(groups)) == 1 and len(records) > 1:
            log.warning("%s: all images are one group by their names; they are split one by one.", where)
            groups = [record.name for record in records]
        for positions in equal_files(records):
            # Copies under several names stay together, and with them their groups, unless nothing else is there.
            together = {groups[position] for position in positions}
            if together == set(groups):
                continue
            names = " and ".join(records[position].name for position in positions[:2])
            log.warning("%s: %s are the same image: they stay on one side of the split.", where, names)
            groups = [groups[positions[0]] if group in together else group for group in groups]
        first, second = grouped_split(groups, self.val_fraction, self.seed)
        if where not in self._told:
            self._told.add(where)
            log.info("%s: %d images for training, %d for validation", where, len(first), len(second))
        return [records[position] for position in first], [records[position] for position in second]


def _refuse_shared(chosen: Mapping[str, Sequence[Record]]) -> None:
    """Refuse an image in two lists: a model would be selected or scored on what it was trained on."""
    seen: dict[str, str] = {}
    for part, records in chosen.items():
        for record in records:
            other = seen.setdefault(record.name, part)
            if other != part:
                problem = f"is in the list for {other} too"
                raise SettingError(f"lists.{part}", record.name, problem, "Keep it in one of them")
