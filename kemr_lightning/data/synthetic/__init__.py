"""Seeded synthetic metaphases with exact masks."""

from kemr_lightning.data.synthetic.datamodule import SyntheticDataModule
from kemr_lightning.data.synthetic.dataset import SyntheticDataset
from kemr_lightning.data.synthetic.folder import write_synthetic_folder
from kemr_lightning.data.synthetic.scene import metaphase
from kemr_lightning.data.synthetic.settings import Metaphase, MetaphaseSettings

__all__ = [
    "Metaphase",
    "MetaphaseSettings",
    "SyntheticDataModule",
    "SyntheticDataset",
    "metaphase",
    "write_synthetic_folder",
]
