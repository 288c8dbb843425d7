"""Own thresholds on validation images, times taken in turns, and the test images for pictures."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from kemr_lightning.comparison.models import Models, measure, times_of
from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.systems import System, systems_of
from kemr_lightning.core.contracts import MaskRefiner, Samples
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore
from tests.comparison.helpers import SIZE, Fixed, box_mask, made_run, noisy_records
from tests.metrics.helpers import instances

BOXES = [(0, 0, 16, 8), (0, 20, 16, 28), (32, 0, 48, 8)]
SCORES = [0.8, 0.6, 0.3]
TRUTH = [box_mask(*BOXES[0]), box_mask(*BOXES[2])]
"""The first and the last of what the detector finds; the second is wrong."""


def sample(name: str, masks: list[np.ndarray] | None = None) -> Sample:
    truth = instances(TRUTH if masks is None else masks, SIZE, [1, 1], [1.0, 1.0])
    return Sample(torch.full(SIZE, len(name), dtype=torch.uint8), name, 1, truth)


def spoil_the_last(image: torch.Tensor, found: Instances) -> Instances:
    """A refiner that leaves nothing of the last mask."""
    assert found.patches is not None
    *kept, last = found.patches
    empty = Patch(last.x0, last.y0, torch.zeros_like(last.values))
    return Instances(found.image_size, found.boxes, found.scores, found.labels, [*kept, empty])


@dataclass
class Bench:
    """A workshop with given images and a given refiner."""

    val: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)
    root: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def samples(self, config: DictConfig, part: Literal["val", "test"], label_names: list[str]) -> Samples:
        found = self.val if part == "val" else self.test
        if not found:
            raise UserError(f"there are no {part} images")
        return found

    def refiner(self, config: DictConfig, checkpoint: Path) -> MaskRefiner | None:
        return spoil_the_last

    def store(self, module: SegmentationModule, checkpoint: Path) -> PredictionStore | None:
        return None if self.root is None else PredictionStore.of(self.root, checkpoint, module)


def run(directory: str | Path = "runs/k") -> FinishedRun:
    detector = Fixed("cascade", BOXES, SCORES)
    return made_run(noisy_records(0), noisy_records(1), directory=directory, detector=detector)


def test_own_thresholds_by_hand() -> None:
    """Right at 0.8 and 0.3, wrong at 0.6, two annotated: F1 is 2/3, 1/2, 4/5 from each score on, and 2/3, 1/2, 2/5
    without the last mask."""
    kemr = run()
    initial, refined = systems_of([kemr])
    models = Models([kemr], Bench([sample("val/a.png"), sample("val/b.png")]))
    chosen = models.threshold(initial, 0.5)
    assert chosen is not None
    assert (chosen.score, chosen.images) == (0.3, 2)
    assert chosen.f1 == pytest.approx(80.0)
    other = models.threshold(refined, 0.5)
    assert other is not None
    assert other.score == 0.61  # of 0.61 ... 0.80, which are equal, the nearest to 0.5
    assert other.f1 == pytest.approx(200 / 3)
    assert isinstance(kemr.module.detector, Fixed)
    assert kemr.module.detector.calls == 2  # once for each image, for both rows


def test_masks_are_cut_as_in_the_test() -> None:
    """A mask of probability 0.45 is right for a run whose masks begin at 0.4 alone."""
    for least, expected in ((0.5, None), (0.4, 100.0)):
        kemr = run()
        kemr.config.metric.threshold = least
        detector = Fixed("cascade", BOXES[:1], SCORES[:1])
        forward = detector.forward

        def faint(images: list[torch.Tensor], targets: object = None, forward=forward) -> object:  # type: ignore[no-untyped-def]
            (found,) = forward(images)
            found.grids *= 0.45
            return [found]

        detector.forward = faint  # type: ignore[assignment,method-assign]
        kemr.module.detector = detector
        truth = Sample(torch.zeros(SIZE, dtype=torch.uint8), "val/a.png", 1, instances(TRUTH[:1], SIZE, [1], [1.0]))
        chosen = Models([kemr], Bench([truth])).threshold(systems_of([kemr])[0], 0.5)
        assert chosen is not None
        assert chosen.f1 == (expected or 0.0)


@pytest.mark.parametrize(
    ("val", "said"),
    [
        ([], "there are no val images"),
        ([sample("val/a.png"), sample("test/case_0a.png")], "test/case_0a.png is not a validation image"),
        ([Sample(torch.zeros(SIZE, dtype=torch.uint8), "val/a.png", 1, None)], "val/a.png is not a validation image"),
    ],
)
def test_without_validation_images_there_is_no_own_threshold(
    val: list[Sample], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "best.ckpt").touch()
    kemr = run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    kemr.checkpoint.touch()
    models = Models([kemr], Bench(val, root=tmp_path / "store"))
    with caplog.at_level(logging.WARNING):
        assert [models.threshold(row, 0.5) for row in systems_of([kemr])] == [None, None]
    assert caplog.text.count(said) == 1
    assert kemr.module.store is None


def test_stored_predictions_serve_thresholds_and_not_times(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    first, again = run(tmp_path), run(tmp_path)
    first.checkpoint.touch()
    bench = Bench([sample("val/a.png")], [sample("test/a.png")], tmp_path / "store")
    rows = [systems_of([each])[0] for each in (first, again)]
    chosen = [Models([row.run], bench).threshold(row, 0.5) for row in rows]
    assert chosen[0] == chosen[1]
    assert [row.run.module.detector.calls for row in rows] == [1, 0]
    bench.test = bench.val
    models = Models([again], bench)
    models.threshold(rows[1], 0.5)
    models.measured(1)
    assert again.module.detector.calls == 2  # warm-up and one image


def test_images_to_time_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    kemr = run()
    models = Models([kemr], Bench(test=[sample(f"test/{n}.png") for n in range(7)]))
    seen: list[str] = []

    def timed(given: object, samples: list[Sample]) -> dict[str, tuple[float, float]]:
        seen.extend(each.name for each in samples)
        return {str(kemr.directory): (0.2, 0.1)}

    monkeypatch.setattr("kemr_lightning.comparison.models.measure", timed)
    assert models.measured(0) == {}
    assert models.measured(3) == {kemr.directory: (0.2, 0.1)}
    assert seen == ["test/0.png", "test/3.png", "test/6.png"]


def test_models_take_turns_and_are_timed_apart() -> None:
    order: list[str] = []
    samples = [Sample(torch.zeros((4, 4), dtype=torch.uint8), f"{i}.png", i) for i in (1, 2)]

    def slow(sample: Sample) -> Instances:
        order.append(f"slow {sample.image_id}")
        time.sleep(0.02)
        return Instances.empty((4, 4))

    def slower_at_first(sample: Sample) -> Instances:
        order.append(f"other {sample.image_id}")
        time.sleep(1.0 if len(order) == 2 else 0.0)
        return Instances.empty((4, 4))

    def refine(image: torch.Tensor, instances: Instances) -> Instances:
        time.sleep(0.03)
        return instances

    times = measure({"slow": (slow, None), "other": (slower_at_first, refine)}, samples)
    assert order == ["slow 1", "other 1", "slow 1", "other 1", "slow 2", "other 2"]
    assert times["slow"][0] > 0.02
    assert times["slow"][1] is None
    assert times["other"][0] < 0.5
    assert (times["other"][1] or 0.0) > 0.03


def test_images_for_pictures(caplog: pytest.LogCaptureFixture) -> None:
    kemr = run()
    models = Models([kemr], Bench(test=[sample("a.png"), sample("bb.png")]))
    assert models.test_images(set()) == {}
    found = models.test_images({"bb.png", "gone.png"})
    assert {name: int(image[0, 0]) for name, image in found.items()} == {"bb.png": 6}
    assert "no pictures of gone.png" in caplog.text
    assert Models([kemr], Bench()).test_images({"a.png"}) == {}
    assert "there are no test images" in caplog.text


def timed_rows(refinement: float | None = 0.25) -> list[System]:
    training = {"seconds": 600.0, "cpu_seconds": 900.0}
    test = {"seconds_per_image": 0.5, "refinement_seconds_per_image": refinement}
    kemr = made_run(noisy_records(0, 2), noisy_records(1, 2), "cascade", timing={"training": training, "test": test})
    return systems_of([kemr])


def test_times_of_a_row() -> None:
    cascade, kemr = (times_of(row) for row in timed_rows())
    assert (kemr.training, kemr.training_cpu) == (600.0, 900.0)
    assert (cascade.inference, kemr.inference) == (0.5, 0.75)
    assert not kemr.measured
    measured = times_of(timed_rows()[1], (0.1, 0.02))
    assert measured.inference == pytest.approx(0.12)
    assert measured.measured


def test_without_the_time_of_its_refinement_a_system_has_none() -> None:
    cascade, kemr = (times_of(row) for row in timed_rows(None))
    assert (cascade.inference, kemr.inference) == (0.5, None)
    assert times_of(timed_rows()[1], (0.1, None)).inference is None
    assert times_of(systems_of([made_run([]), made_run([], kind="blendmask")])[0]).inference is None
