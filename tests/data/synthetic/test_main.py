"""The command line that writes a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.data.labelme import parse_labelme
from kemr_lightning.data.synthetic.__main__ import main
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES

WHERE = ["--train", "1", "--val", "0", "--test", "0", "--size", "160", "128"]


def test_options_reach_the_files(tmp_path: Path) -> None:
    assert main([str(tmp_path), *WHERE, "--classes", "--count", "4", "--look", "gband"]) == 0
    files = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert files == ["synthetic_00001.json", "synthetic_00001.png"]
    written = parse_labelme(tmp_path / "train" / "synthetic_00001.json")
    assert written.image_size == (128, 160)
    labels = {annotation.label for annotation in written.annotations}
    assert labels <= set(CHROMOSOME_NAMES)
    assert 1 <= len(written.annotations) <= 4


def test_a_wrong_option_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), *WHERE, "--overlap", "7"]) == 2
    assert capsys.readouterr().err == "error: overlap=7.0 is out of range. Give a fraction, 0 to 1\n"


def test_clinical_scenes_in_files(tmp_path: Path) -> None:
    where = [*WHERE[:-3], "--scene", "clinical", "--look", "dapi", "--count", "3", "--width", "5", "8"]
    assert main([str(tmp_path), *where]) == 0
    written = parse_labelme(tmp_path / "train" / "synthetic_00001.json")
    assert written.image_size != (576, 768)
    assert 1 <= len(written.annotations) <= 3
