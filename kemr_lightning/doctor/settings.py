"""Settings of the doctor: what counts as usual, and how many findings are shown."""

from __future__ import annotations

from dataclasses import dataclass

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.checks import check_fraction


@dataclass(frozen=True)
class DoctorSettings:
    """Settings of the doctor.

    Attributes:
        expected: Expected number of chromosomes per image, or None.
        count_margin: A count that differs by no more than this is not mentioned.
        anchor_misfits: Fraction of the chromosomes, in [0, 1], that the model's anchors may fit badly.
        pictures: Maximum number of pictures per kind of finding on the page.
        listed: Maximum number of findings per kind that the terminal lists.

    Raises:
        SettingError: A value is out of range.
    """

    expected: int | None = 46
    count_margin: int = 4
    anchor_misfits: float = 0.05
    pictures: int = 12
    listed: int = 3

    def __post_init__(self) -> None:
        for name in ("expected", "count_margin", "pictures", "listed"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not whole and not (name == "expected" and value is None):
                raise SettingError(name, value, "is not a number", "Give a whole number from 0")
        check_fraction("anchor_misfits", self.anchor_misfits)
