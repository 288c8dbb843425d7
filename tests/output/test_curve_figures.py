"""Curves show the figures they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import extended_figures
from kemr_lightning.output import curve_figures
from kemr_lightning.output.curve_figures import _smooth, ap_over_iou, precision_recall, training_curves
from kemr_lightning.output.drawing import COLOURS, save
from tests.callbacks.helpers import eroding, samples


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were drawn, which are written as well."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path, dpi: int) -> None:
        figures.append(figure)
        save(figure, path, dpi)

    monkeypatch.setattr(curve_figures, "save", keep)
    return figures


def figures_of(refine: bool) -> dict[str, Any]:
    items, found = samples(3)
    records = []
    for sample in items:
        instances = eroding(sample.image, found[sample.image_id]) if refine else found[sample.image_id]
        records.append(record(instances, sample.instances or Instances.empty(sample.image_size), sample.image_id))
    return extended_figures(records)


def lines(figure: Figure, axes: int = 0) -> list[tuple[str, list[float], list[float]]]:
    """Colour, xs and ys of each line."""
    return [
        (str(line.get_color()), np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in figure.axes[axes].lines
    ]


def test_precision_over_recall(tmp_path: Path, drawn: list[Figure]) -> None:
    extended = {"initial": figures_of(False), "refined": figures_of(True)}
    precision_recall(extended, tmp_path / "a.png", ious=(0.5, 0.75))
    found = lines(drawn[0])
    expected = [(key, iou) for key in ("initial", "refined") for iou in ("0.50", "0.75")]
    assert len(found) == len(expected)
    for (colour, xs, ys), (key, iou) in zip(found, expected, strict=True):
        assert colour == COLOURS[key]
        assert xs == pytest.approx(range(101))
        assert ys == pytest.approx(100 * np.array(extended[key]["mask"]["curves"][iou]))
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["initial", "refined", "IoU 0.50", "IoU 0.75"]
    assert drawn[0].axes[0].get_title() == "mask precision"
    assert Image.open(tmp_path / "a.png").size == (960, 690)


def test_ap_over_the_threshold_of_boxes_where_there_are_no_masks(tmp_path: Path, drawn: list[Figure]) -> None:
    figures = figures_of(False)
    del figures["mask"]
    ap_over_iou({"initial": figures}, tmp_path / "a.png")
    ((_, xs, ys),) = lines(drawn[0])
    assert xs == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    assert ys == [figures["box"][f"AP{level}"] for level in range(50, 100, 5)]
    assert drawn[0].axes[0].get_title() == "box AP"


def test_training_curves_sum_losses_by_kind_and_keep_the_later_of_two_values(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text(
        "step,train/loss,train/loss_stage1_box,train/loss_stage2_box,val/initial/MaskAP\n"
        "0,2,0.5,0.25,\n5,1.5,0.25,0.5,\n5,1.25,0.25,0.25,\n5,,,,30\n9,1,0.125,0.25,\n"
    )
    assert training_curves(table, tmp_path / "t.png")
    assert [(xs, ys) for _, xs, ys in lines(drawn[0])] == [
        ([0, 5, 9], [2, 1.25, 1]),  # the total comes first
        ([0, 5, 9], [0.75, 0.5, 0.375]),
    ]
    assert [(xs, ys) for _, xs, ys in lines(drawn[0], axes=1)] == [([5], [30])]
    assert (tmp_path / "t.png").stat().st_size > 0


def test_without_losses_nothing_is_drawn(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,test/MaskAP\n1,50\n")
    assert not training_curves(table, tmp_path / "t.png")
    assert not (tmp_path / "t.png").exists()


@pytest.mark.parametrize("length", [1, 39, 40, 127])
def test_the_running_mean_is_cut_off_at_the_ends(length: int) -> None:
    values = np.random.default_rng(length).random(length)
    half = length // 40
    expected = [values[max(i - half, 0) : i + half + 1].mean() for i in range(length)]
    assert _smooth(values) == pytest.approx(expected)
