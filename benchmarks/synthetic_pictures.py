"""Draw examples of clinical synthetic scenes, and one with its masks.

    python benchmarks/synthetic_pictures.py --out docs/figures

Writes ``synthetic_clinical.jpg``, a row for each look, and ``synthetic_masks.jpg``, where pixels of more than one
chromosome are orange.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from kemr_lightning.data.synthetic import Metaphase, MetaphaseSettings, SyntheticDataset
from kemr_lightning.data.synthetic.settings import CLINICAL_LOOKS

CELL = (400, 340)


def fitted(image: np.ndarray) -> np.ndarray:
    """An image scaled into a cell of the sheet."""
    factor = min(CELL[0] / image.shape[1], CELL[1] / image.shape[0])
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    sheet = np.full((CELL[1] + 4, CELL[0] + 4, *image.shape[2:]), 128, np.uint8)
    sheet[: small.shape[0], : small.shape[1]] = small
    return sheet


def with_masks(scene: Metaphase) -> np.ndarray:
    """The image beside the same with outlines and overlaps, at twice its size."""
    grey = cv2.cvtColor(scene.image, cv2.COLOR_GRAY2BGR)
    large = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    count = np.zeros(scene.image_size, np.uint8)
    drawn = large.copy()
    for where in scene.footprints:
        rows, columns = where.mask.shape
        count[where.y0 : where.y0 + rows, where.x0 : where.x0 + columns] += where.mask
    shared = cv2.resize(count, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) > 1
    drawn[shared] = (0, 140, 255)
    for shape in scene.shapes:
        corners = np.round(2 * shape.outline() * 8).astype(np.int32)
        cv2.polylines(drawn, [corners], isClosed=True, color=(80, 200, 0), thickness=1, lineType=cv2.LINE_AA, shift=3)
    return np.hstack([large, drawn])


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rows = []
    for look in CLINICAL_LOOKS:
        dataset = SyntheticDataset(4, MetaphaseSettings(None, None, look, scene="clinical"), options.seed)
        rows.append(np.hstack([fitted(dataset.metaphase(index).image) for index in range(4)]))
    options.out.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 82]
    cv2.imwrite(str(options.out / "synthetic_clinical.jpg"), np.vstack(rows), quality)
    settings = MetaphaseSettings((420, 380), None, "gband", 0.6, 8.0, "clinical")
    scene = SyntheticDataset(9, settings, options.seed).metaphase(2)
    cv2.imwrite(str(options.out / "synthetic_masks.jpg"), with_masks(scene), quality)


if __name__ == "__main__":
    main()
