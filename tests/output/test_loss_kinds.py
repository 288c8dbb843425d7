"""Names that the detectors' losses have, as kinds."""

from __future__ import annotations

import pytest

from kemr_lightning.output.loss_kinds import kind_of_loss


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train/loss", "total"),
        ("train/loss_rpn_box", "proposals"),
        ("train/loss_rpn_objectness", "proposals"),
        ("train/loss_stage1_class", "class"),
        ("train/loss_stage3_box", "box"),
        ("train/loss_mask", "mask"),
        ("train/loss_centerness", "centerness"),
        ("train/loss_step", "total"),
        ("train/loss_epoch", None),
        ("val/loss", None),
        ("train/learning_rate", None),
        ("epoch", None),
    ],
)
def test_kinds(name: str, kind: str | None) -> None:
    assert kind_of_loss(name) == kind
