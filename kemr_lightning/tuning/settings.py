"""Settings of a tuning."""

from __future__ import annotations

from dataclasses import dataclass

from kemr_lightning.core.errors import SettingError
from kemr_lightning.tuning.scoring import SCORES

SOURCES = ("val", "train", "test")


@dataclass(frozen=True)
class TuneSettings:
    """Settings of a tuning.

    Attributes:
        source: The images to score on, one of `SOURCES`.
        objective: The figure to maximise, one of `SCORES`.
        trials: Trials of the whole study, >= 1, those of earlier runs and of other processes included.
        timeout: Seconds, > 0, after which this process starts no further trial; None for no limit.
        storage: Where the study is kept, see `kemr_lightning.tuning.storage.open_storage`.
        chunks: Number of parts of the images, >= 1; after each of them a trial may be pruned.
        startup: Random trials before the search begins and before any trial is pruned, >= 0.
        memory_mb: Images and instances kept in memory, in MiB, >= 0.

    Raises:
        SettingError: A setting is unknown or out of range.
    """

    source: str
    objective: str
    trials: int
    timeout: float | None
    storage: str
    chunks: int
    startup: int
    memory_mb: int

    def __post_init__(self) -> None:
        if self.objective not in SCORES:
            raise SettingError("objective", self.objective, "is unknown", f"Use {', '.join(SCORES)}")
        if self.source not in SOURCES:
            raise SettingError("source", self.source, "is unknown", "Use val, train or test")
        if self.timeout is not None and not self.timeout > 0:
            raise SettingError("timeout", self.timeout, "is out of range", "Give seconds, or null for no limit")
        for name, lowest in {"trials": 1, "chunks": 1, "startup": 0, "memory_mb": 0}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise SettingError(name, value, "is out of range", f"Give a whole number, {lowest} or more")
