"""Data for tests, made by code: small Labelme folders whose content is known exactly."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image, ImageDraw

from kemr_lightning.tasks import run

CONF = Path(__file__).parent.parent / "conf"
SIZE = (96, 128)


def rods(seed: int, count: int = 4, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, list[list[list[float]]]]:
    """A grey image ``(H, W)`` uint8 of bright rods on a dark ground, and their corners."""
    height, width = size
    rng = np.random.default_rng(seed)
    canvas = Image.new("L", (width, height), 30)
    draw = ImageDraw.Draw(canvas)
    polygons = []
    for _ in range(count):
        centre = rng.uniform((20, 20), (width - 20, height - 20))
        angle = rng.uniform(0, np.pi)
        along = 14 * np.array([np.cos(angle), np.sin(angle)])
        across = 4 * np.array([-np.sin(angle), np.cos(angle)])
        corners = [centre + along + across, centre + along - across, centre - along - across, centre - along + across]
        draw.polygon([tuple(corner) for corner in corners], fill=200)
        polygons.append([[round(float(x), 2), round(float(y), 2)] for x, y in corners])
    noisy = np.asarray(canvas, dtype=float) + rng.normal(0, 4, size)
    return noisy.clip(0, 255).astype(np.uint8), polygons


def write_image(folder: Path, stem: str, seed: int, annotated: bool = True) -> None:
    """One PNG, with its Labelme JSON beside it if annotated."""
    folder.mkdir(parents=True, exist_ok=True)
    image, polygons = rods(seed)
    Image.fromarray(image).save(folder / f"{stem}.png")
    if annotated:
        shapes = [
            {"label": "chr", "points": points, "group_id": None, "shape_type": "polygon", "flags": {}}
            for points in polygons
        ]
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{stem}.png",
            "imageData": None,
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        }
        (folder / f"{stem}.json").write_text(json.dumps(content))


def hash_seed(part: str, index: int) -> int:
    """A number that differs between images and is the same in every process."""
    return sum(map(ord, part)) * 100 + index


def write_labelme_root(root: Path) -> Path:
    """A folder with train/ (4 images), val/ (2) and test/ (2)."""
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        for index in range(count):
            write_image(root / part, f"{part}_{index}", seed=hash_seed(part, index))
    return root


@pytest.fixture(scope="session")
def labelme_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_labelme_root`; for reading only. There are spaces in the path."""
    return write_labelme_root(tmp_path_factory.mktemp("data") / "my images")


def compose(*overrides: str) -> DictConfig:
    """The configuration that ``python run.py OVERRIDES`` composes."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides))


SMALL = ("trainer.max_steps=2", "data.augmentation.crop_size=[96,96]", "logger=csv", "callbacks.figures=null")
"""Overrides that make a tiny experiment a matter of seconds."""


def run_task(run_dir: Path, *overrides: str) -> Path:
    """Run a task in this process.

    Args:
        run_dir: Its run directory.
        overrides: As on the command line.

    Returns:
        ``run_dir``.
    """
    run(compose(f"paths.run_dir='{run_dir}'", f"paths.runs='{run_dir.parent}'", *overrides))
    return run_dir


@pytest.fixture(scope="session")
def trained(labelme_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training of kemr_tiny over two steps; for reading only."""
    run_dir = tmp_path_factory.mktemp("runs") / "first run"
    return run_task(run_dir, "experiment=kemr_tiny", f"data.root='{labelme_root}'", *SMALL)
