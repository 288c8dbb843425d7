"""``metrics.csv`` continues where a run resumes."""

from __future__ import annotations

import csv
from pathlib import Path

from kemr_lightning.output.csv_log import ContinuedCSVLogger


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_second_logger_keeps_the_first_ones_rows(tmp_path: Path) -> None:
    first = ContinuedCSVLogger(tmp_path)
    first.log_metrics({"train/loss": 2.0}, step=1)
    first.log_metrics({"val/MaskAP": 10.0}, step=2)
    first.save()
    second = ContinuedCSVLogger(tmp_path)
    second.log_metrics({"train/loss": 1.0, "test/IA": 5.0}, step=3)
    second.save()
    second.log_metrics({"val/MaskAP": 20.0}, step=4)
    second.finalize("success")
    found = rows(tmp_path)
    assert [row["step"] for row in found] == ["1", "2", "3", "4"]
    assert [row["train/loss"] for row in found] == ["2.0", "", "1.0", ""]
    assert [row["val/MaskAP"] for row in found] == ["", "10.0", "", "20.0"]
    assert found[2]["test/IA"] == "5.0"
