"""Small data sets with known faults, for the tests of the doctor."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from kemr_lightning.doctor import Diagnosis, Examined, Options, examine
from tests.data.helpers import shape, write_labelme_file

SIZE = (160, 240)


def field(count: int = 12, seed: int = 0, bright: bool = True) -> tuple[np.ndarray, list[list[list[float]]]]:
    """Upright rods of 10 x 30 px on a grid, and their outlines."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(40 if bright else 210, 3, SIZE)
    outlines = []
    for cell in rng.permutation(18)[:count].tolist():
        x, y = 12 + 38 * (cell % 6) + int(rng.integers(0, 12)), 8 + 50 * (cell // 6) + int(rng.integers(0, 10))
        pixels[y : y + 30, x : x + 10] += 120 if bright else -120
        outlines.append([[x, y], [x + 10, y], [x + 10, y + 30], [x, y + 30]])
    return pixels.clip(0, 255).astype(np.uint8), outlines


def save(folder: Path, stem: str, seed: int = 0, drop: int = 0, extra: list | None = None, **changes: object) -> Path:
    """A field whose first ``drop`` rods are not annotated."""
    pixels, outlines = field(seed=seed)
    shapes = [shape(outline) for outline in outlines[drop:]]
    return write_labelme_file(folder, stem, shapes + (extra or []), pixels, **changes)


def look(root: Path, data_format: str = "labelme", **options: object) -> Diagnosis:
    return examine(root, data_format, Options(**({"expected": 12, "count_margin": 2} | options)))  # type: ignore[arg-type]


def kinds(diagnosis: Diagnosis) -> dict[str, int]:
    return dict(Counter(finding.kind for finding in diagnosis.findings))


def write_coco(root: Path, images: list[dict], annotations: list[dict]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "chr"}]}
    (root / "a.json").write_text(json.dumps(document))


def examined(name: str, part: str = "all", group: str = "", **changes: object) -> Examined:
    """An examined image with no instance, unless the changes say otherwise."""
    values: dict[str, object] = {
        "name": name,
        "part": part,
        "group": group or name,
        "size": SIZE,
        "labels": [],
        "boxes": np.zeros((0, 4)),
        "areas": np.zeros(0),
        "lengths": np.zeros(0),
        "widths": np.zeros(0),
        "masks": True,
    }
    return Examined(**(values | changes))  # type: ignore[arg-type]
