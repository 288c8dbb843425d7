"""Run directories are read whole, or refused with what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kemr_lightning.comparison.runs import is_finished, read_run
from kemr_lightning.core.errors import UserError
from tests.comparison.helpers import BLENDMASK, CASCADE, MASK_RCNN, config, noisy_records, write_run


@pytest.mark.parametrize(
    ("model", "detector"), [(MASK_RCNN, "mask_rcnn"), (CASCADE, "cascade"), (BLENDMASK, "blendmask")]
)
def test_a_training_is_read(tmp_path: Path, model: dict[str, object], detector: str) -> None:
    times = {"training": {"seconds": 60.0}, "test": {"seconds_per_image": 0.5}}
    initial, refined = noisy_records(0), noisy_records(1, quality=0.8)
    path = write_run(tmp_path / "run", initial, refined, model, times, seed=3)
    assert is_finished(path)
    run = read_run(path)
    assert run.detector == detector
    assert run.refined
    assert run.training.seed == 3
    assert run.timing == times
    assert [len(item.predictions) for item in run.final] == [len(item.predictions) for item in refined]
    assert run.checkpoint == path / "checkpoints" / "best.ckpt"


def test_a_test_has_the_settings_of_the_training_whose_checkpoint_it_tested(tmp_path: Path) -> None:
    trained = write_run(
        tmp_path / "trained", noisy_records(0), timing={"training": {"seconds": 9.0}, "test": {"images": 1}}, seed=5
    )
    tested = write_run(tmp_path / "tested", noisy_records(0), timing={"test": {"images": 2}})
    shutil.rmtree(tested / "checkpoints")
    settings = config() | {"task": {"name": "test"}, "ckpt": str(trained / "checkpoints" / "best.ckpt")}
    (tested / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(settings)))
    assert not is_finished(tested)
    run = read_run(tested)
    assert (run.config.seed, run.training.seed) == (0, 5)
    assert run.timing == {"training": {"seconds": 9.0}, "test": {"images": 2}}


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no directory"):
        read_run(tmp_path / "none")
    path = write_run(tmp_path / "run", noisy_records(0))
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["initial"]["MaskAP"] += 1
    (path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="different tests"):
        read_run(path)
    shutil.rmtree(path / "checkpoints")
    metrics["initial"]["MaskAP"] -= 1
    (path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"best.ckpt does not exist"):
        read_run(path)
    (path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        read_run(path)
    (path / "config.yaml").write_text("a: 1")
    with pytest.raises(UserError, match="not the configuration"):
        read_run(path)
    (path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config.yaml does not exist"):
        read_run(path)
