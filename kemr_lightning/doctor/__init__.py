"""Find what is wrong with a data set before training. `examine` does not stop at broken files."""

from kemr_lightning.doctor.anchors import AnchorFit
from kemr_lightning.doctor.examine import Diagnosis, Options, examine
from kemr_lightning.doctor.findings import ERROR, KINDS, NOTE, WARNING, Finding, Kind, SettingNames
from kemr_lightning.doctor.set_findings import Examined

__all__ = [
    "ERROR",
    "KINDS",
    "NOTE",
    "WARNING",
    "AnchorFit",
    "Diagnosis",
    "Examined",
    "Finding",
    "Kind",
    "Options",
    "SettingNames",
    "examine",
]
