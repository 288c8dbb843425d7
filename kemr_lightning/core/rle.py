"""COCO run-length encoding directly from and to patches, without full frames.

COCO's RLE goes through an image column by column and counts runs of zeros and ones in turn, zeros first. The runs of a
mask on a window follow from the window's columns alone, so the cost of encoding depends on the patch, not the image.
The bytes are compressed by pycocotools and equal to its `encode` of the full frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from faster_coco_eval import mask_api_new_cpp as _runs
from numpy.typing import NDArray
from pycocotools import mask as _mask

from kemr_lightning.core.instances import Patch


class RLE(TypedDict):
    """A compressed COCO RLE: ``size`` is ``[H, W]``, ``counts`` are ASCII bytes (a str is accepted for reading)."""

    size: list[int]
    counts: bytes | str


def encode(patch: Patch, image_size: tuple[int, int], threshold: float = 0.5) -> RLE:
    """Encode a patch as the RLE of its image.

    Args:
        patch: Probabilities or bool; its window lies inside the image.
        image_size: ``(H, W)``.
        threshold: A float patch's mask is ``values >= threshold``.

    Returns:
        The compressed RLE, byte-identical to `pycocotools.mask.encode` of the full frame.

    Raises:
        ValueError: The window does not lie inside the image.
    """
    height, width = image_size
    x0, y0, x1, y1 = patch.window
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise ValueError(f"the patch's window {patch.window} leaves its image of {width}x{height} pixels")
    columns = patch.binary(threshold).detach().cpu().numpy().T
    # Where the value changes along each column, from and to the background above and below.
    padded = np.zeros((columns.shape[0], columns.shape[1] + 2), dtype=bool)
    padded[:, 1:-1] = columns
    column, row = np.nonzero(padded[:, 1:] != padded[:, :-1])
    changes = (column + x0) * height + row + y0
    if y0 == 0 and y1 == height:
        # A run that reaches the bottom continues at the top of the next column: there is no change at either place.
        first = np.flatnonzero(changes[1:] == changes[:-1])
        changes = np.delete(changes, np.concatenate([first, first + 1]))
    # A run that reaches the image's last pixel ends with the image.
    changes = changes[changes < height * width]
    counts = np.diff(changes, prepend=0, append=height * width)
    rle = _mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return RLE(size=[height, width], counts=rle["counts"])


def decode(rle: RLE) -> Patch:
    """The mask of an RLE on its tight window.

    Args:
        rle: A compressed RLE.

    Returns:
        A bool patch on the mask's smallest window; if the mask is empty, one False pixel at the origin.

    Raises:
        ValueError: The counts cannot be read or do not fit the size.
    """
    height, width = rle["size"]
    try:
        counts = np.asarray(_runs.toUncompressedRLE([_as_bytes(rle)])[0]["counts"], dtype=np.int64)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    ends = np.cumsum(counts)
    if not len(ends) or ends[-1] != height * width:
        raise ValueError(f"the RLE's runs do not add up to the {width}x{height} pixels of the image")
    starts = ends - counts
    starts, ends = starts[1::2], ends[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    if not len(starts):
        return Patch(0, 0, torch.zeros((1, 1), dtype=torch.bool))
    first, last = int(starts[0] // height), int((ends[-1] - 1) // height)
    strip = np.zeros((last - first + 1) * height + 1, dtype=np.int8)
    strip[starts - first * height] += 1
    strip[ends - first * height] -= 1
    columns = np.cumsum(strip[:-1], dtype=np.int8).reshape(-1, height).astype(bool)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return Patch(first, top, torch.from_numpy(np.ascontiguousarray(columns[:, top:bottom].T)))


def iou(first: Sequence[RLE], second: Sequence[RLE]) -> NDArray[np.float64]:
    """``(len(first), len(second))`` intersection over union of masks; 0 where both are empty."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    overlap = _mask.iou([_as_bytes(r) for r in first], [_as_bytes(r) for r in second], [False] * len(second))
    # Two empty masks are 0/0 for pycocotools.
    return np.nan_to_num(np.asarray(overlap, dtype=np.float64), nan=0.0)


def box_iou(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], of_first: bool = False
) -> NDArray[np.float64]:
    """``(len(first), len(second))`` intersection over union of boxes ``(x, y, w, h)``.

    Args:
        first: Boxes.
        second: Boxes.
        of_first: Divide by the area of the first box instead, as COCO does where the second is a crowd.
    """
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    boxes = [np.asarray(b, dtype=np.float64).reshape(-1, 4) for b in (first, second)]
    return np.nan_to_num(np.asarray(_mask.iou(boxes[0], boxes[1], [of_first] * len(second)), dtype=np.float64), nan=0.0)


def intersections(first: Sequence[RLE], second: Sequence[RLE]) -> NDArray[np.int64]:
    """``(len(first), len(second))`` numbers of pixels that masks share."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)), dtype=np.int64)
    # With "crowd" masks pycocotools divides the shared pixels by the first mask's area alone.
    parts = _mask.iou([_as_bytes(r) for r in first], [_as_bytes(r) for r in second], [True] * len(second))
    areas = np.array([area(r) for r in first], dtype=np.float64)[:, None]
    return np.rint(np.nan_to_num(np.asarray(parts, dtype=np.float64), nan=0.0) * areas).astype(np.int64)


def area(rle: RLE) -> int:
    """The number of pixels in a mask."""
    return int(_mask.area(_as_bytes(rle)))


def tight_box(rle: RLE) -> list[float]:
    """``[x, y, w, h]`` of a mask's tight box in whole pixels; zeros if the mask is empty."""
    return [float(value) for value in _mask.toBbox(_as_bytes(rle))]


def _as_bytes(rle: RLE) -> RLE:
    counts = rle["counts"]
    return rle if isinstance(counts, bytes) else RLE(size=rle["size"], counts=counts.encode("ascii"))
