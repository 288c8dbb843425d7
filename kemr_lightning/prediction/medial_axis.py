"""A chromosome's medial axis: its length, width, direction and the band profile along it.

The axis is the longest path through the skeleton of the mask (`skimage.morphology.skeletonize`), smoothed, and extended
to the ends of the mask, since a skeleton stops about half a width before them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from skimage.morphology import skeletonize

Points = npt.NDArray[np.float64]

SMOOTHING = 2.0
"""Standard deviation in pixels of the Gaussian that smooths the axis, since a skeleton runs in whole pixels."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class MedialAxis:
    """The axis of one mask.

    Attributes:
        points: ``(K, 2)`` points ``(x, y)`` about a pixel apart, from end to end of the mask, in the coordinates of the
            mask's window (pixel ``(i, j)`` has its centre at ``(j + 0.5, i + 0.5)``).
        length: Length of the axis in pixels.
        width: Area over length, in pixels.
        direction: Unit vector ``(x, y)`` of the mask's long axis, pointing down (or right, if it lies flat).
        profile: ``(K,)`` mean intensity across the mask at each point.
    """

    points: Points
    length: float
    width: float
    direction: tuple[float, float]
    profile: npt.NDArray[np.float64]


def medial_axis(mask: npt.NDArray[np.bool_], image: npt.NDArray[np.uint8]) -> MedialAxis:
    """Measure a mask along its medial axis.

    Args:
        mask: ``(h, w)`` bool, not empty. Of several parts only the largest is measured; all of them count for the
            direction.
        image: ``(h, w)`` uint8 intensities on the same window.

    Returns:
        The axis.

    Raises:
        ValueError: The mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no axis")
    padded = np.pad(_largest(mask), 2)
    skeleton: npt.NDArray[np.bool_] = skeletonize(padded)  # type: ignore[no-untyped-call]
    path = _longest_path(skeleton)
    points = _spaced(_prolonged(_smoothed(path), padded))
    points = points - 2
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    area = int(padded.sum())
    return MedialAxis(
        points=points,
        length=length,
        width=area / max(length, 1.0),
        direction=_direction(mask),
        profile=_profile(points, padded[2:-2, 2:-2], image),
    )


def resample(profile: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Give a profile another number of positions.

    Args:
        profile: ``(K,)``.
        count: Number of positions.

    Returns:
        ``(count,)``: interpolated linearly from end to end, or the means of equal parts where ``count`` is below K.
    """
    if len(profile) <= count:
        return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(profile)), profile)
    # Means of equal parts, by way of the integral, so that thin bands are averaged and not skipped.
    integral = np.concatenate([[0.0], np.cumsum(profile)])
    edges = np.interp(np.linspace(0, len(profile), count + 1), np.arange(len(profile) + 1), integral)
    means: npt.NDArray[np.float64] = np.diff(edges) * (count / len(profile))
    return means


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    parts, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    if count == 1:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: npt.NDArray[np.bool_] = parts == sizes.argmax()
    return largest


def _direction(mask: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The first principal axis of the mask's pixels, as in `MedialAxis`."""
    rows, columns = np.nonzero(mask)
    if len(rows) < 3:
        return 0.0, 1.0
    _, vectors = np.linalg.eigh(np.cov(np.stack([columns, rows]).astype(np.float64)))
    x, y = float(vectors[0, 1]), float(vectors[1, 1])
    if y < -1e-9 or (abs(y) <= 1e-9 and x < 0):
        x, y = -x, -y
    return x, y


def _longest_path(skeleton: npt.NDArray[np.bool_]) -> Points:
    """Pixel centres ``(x, y)`` along the longest of the shortest paths between two skeleton pixels."""
    rows, columns = np.nonzero(skeleton)
    count = len(rows)
    if count == 1:
        return np.array([[columns[0] + 0.5, rows[0] + 0.5]])
    number = np.full((skeleton.shape[0] + 2, skeleton.shape[1] + 2), -1)
    number[rows + 1, columns + 1] = np.arange(count)
    starts, ends, lengths = [], [], []
    for down, right in _NEIGHBOURS:
        other = number[rows + 1 + down, columns + 1 + right]
        near = np.flatnonzero(other >= 0)
        starts.append(near)
        ends.append(other[near])
        lengths.append(np.full(len(near), math.hypot(down, right)))
    graph = coo_matrix(
        (np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends))), shape=(count, count)
    ).tocsr()
    # Two sweeps find the longest path of a tree, and skeletons of masks without holes are trees.
    away = dijkstra(graph, directed=False, indices=0)
    first = int(np.where(np.isfinite(away), away, -1).argmax())
    away, before = dijkstra(graph, directed=False, indices=first, return_predecessors=True)
    here = int(np.where(np.isfinite(away), away, -1).argmax())
    path = [here]
    while here != first:
        here = int(before[here])
        path.append(here)
    return np.stack([columns[path] + 0.5, rows[path] + 0.5], axis=1).astype(np.float64)


def _smoothed(path: Points) -> Points:
    if len(path) < 3:
        return path
    # Mirrored about the end points themselves, which therefore stay where they are.
    reach = min(len(path) - 1, round(4 * SMOOTHING))
    head = 2 * path[0] - path[reach:0:-1]
    tail = 2 * path[-1] - path[-2 : -reach - 2 : -1]
    smooth: Points = ndimage.gaussian_filter1d(np.concatenate([head, path, tail]), SMOOTHING, axis=0, mode="nearest")
    return smooth[reach : reach + len(path)]


def _prolonged(path: Points, mask: npt.NDArray[np.bool_]) -> Points:
    """Extend both ends, each in its direction, to the mask's rim."""
    if len(path) < 2:
        path = _through_centre(path[0], mask)
    half_width = float(ndimage.distance_transform_edt(mask).max())
    steps = max(2, round(2 * half_width))
    parts = [path]
    for end, at_start in ((path[0], True), (path[-1], False)):
        inner = path[min(steps, len(path) - 1)] if at_start else path[max(-1 - steps, -len(path))]
        away = end - inner
        away = away / max(float(np.hypot(*away)), 1e-9)
        extra = []
        point = end
        while _inside(point + 0.5 * away, mask):
            point = point + 0.5 * away
            extra.append(point)
        if extra:
            line = np.array(extra)
            parts = [line[::-1], *parts] if at_start else [*parts, line]
    return np.concatenate(parts)


def _through_centre(centre: Points, mask: npt.NDArray[np.bool_]) -> Points:
    """A short line along the main direction, for masks whose skeleton is a single pixel."""
    direction = np.array(_direction(mask)) * 0.25
    return np.stack([centre - direction, centre + direction])


def _inside(point: Points, mask: npt.NDArray[np.bool_]) -> bool:
    column, row = math.floor(point[0]), math.floor(point[1])
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def _spaced(path: Points) -> Points:
    """The same path with points about a pixel apart."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0, along[-1], max(2, round(along[-1]) + 1))
    return np.stack([np.interp(at, along, path[:, axis]) for axis in (0, 1)], axis=1)


def _profile(points: Points, mask: npt.NDArray[np.bool_], image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean intensity at each point, along the stretch of its perpendicular that lies in the mask around the point."""
    tangents = np.gradient(points, axis=0)
    tangents = ndimage.gaussian_filter1d(tangents, SMOOTHING, axis=0, mode="nearest")
    tangents /= np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-9)[:, None]
    normals = np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
    reach = math.ceil(float(ndimage.distance_transform_edt(np.pad(mask, 1)).max())) + 1
    offsets = np.arange(-2 * reach, 2 * reach + 1) / 2
    places = points[:, None] + offsets[None, :, None] * normals[:, None]
    at = [places[..., 1] - 0.5, places[..., 0] - 0.5]
    values = ndimage.map_coordinates(image.astype(np.float64), at, order=1, mode="nearest")
    inside = ndimage.map_coordinates(mask.astype(np.uint8), at, order=0, mode="constant") > 0
    # Only the stretch around the axis: one line may cross a bent mask twice.
    centre = 2 * reach
    inside[:, centre] = True
    outward = np.logical_and.accumulate(inside[:, centre:], axis=1)
    inward = np.logical_and.accumulate(inside[:, centre::-1], axis=1)
    weight = np.concatenate([inward[:, :0:-1], outward], axis=1)
    profile: npt.NDArray[np.float64] = (values * weight).sum(axis=1) / weight.sum(axis=1)
    return profile
