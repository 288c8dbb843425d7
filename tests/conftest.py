"""Data for tests, made by code: small Labelme folders whose content is known exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

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


@pytest.fixture
def labelme_root(tmp_path: Path) -> Path:
    """A folder with train/ (4 images), val/ (2) and test/ (2)."""
    root = tmp_path / "labelme"
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        for index in range(count):
            write_image(root / part, f"{part}_{index}", seed=hash_seed(part, index))
    return root


def hash_seed(part: str, index: int) -> int:
    """A number that differs between images and is the same in every process."""
    return sum(map(ord, part)) * 100 + index


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    """A flat folder of 2 images without annotations."""
    for index in range(2):
        write_image(tmp_path / "images", f"image {index}", seed=index, annotated=False)
    return tmp_path / "images"
