"""Curves are drawn from what a run has."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import extended_figures
from kemr_lightning.output.curve_figures import ap_over_iou, precision_recall, training_curves
from tests.callbacks.helpers import samples


def test_curves(tmp_path: Path) -> None:
    items, found = samples(3)
    records = [record(found[s.image_id], s.instances or Instances.empty(s.image_size), s.image_id) for s in items]
    extended = {"initial": extended_figures(records), "refined": extended_figures(records)}
    precision_recall(extended, tmp_path / "pr.png")
    ap_over_iou({"initial": extended["initial"]}, tmp_path / "ap.png")
    assert Image.open(tmp_path / "pr.png").size[0] > 500
    assert Image.open(tmp_path / "ap.png").size[0] > 500


def test_training_curves_need_losses(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,test/MaskAP\n1,50\n")
    assert not training_curves(table, tmp_path / "t.png")
    table.write_text("step,train/loss,val/initial/MaskAP\n0,2,\n5,1.5,\n5,1.4,\n5,,30\n9,1,\n")
    assert training_curves(table, tmp_path / "t.png")
    assert (tmp_path / "t.png").exists()
