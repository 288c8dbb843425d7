"""Different test sets are refused; different budgets, seeds and scales are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from kemr_lightning.comparison.fairness import check_same_test, differences, origins_of, settings_of, warnings_for
from kemr_lightning.comparison.systems import systems_of
from kemr_lightning.core.errors import UserError
from tests.comparison.helpers import config, made_run, noisy_records


def test_the_same_test_passes() -> None:
    check_same_test([made_run(noisy_records(0)), made_run(noisy_records(1, quality=0.5), directory="runs/other")])


def test_other_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"different images \(6 and 5; test/case_2b.png"):
        check_same_test([made_run(noisy_records(0)), made_run(noisy_records(0, images=5))])


def test_other_annotations_are_refused() -> None:
    with pytest.raises(UserError, match=r"different annotations of test/case_0a.png"):
        check_same_test([made_run(noisy_records(0)), made_run(noisy_records(0, truth_seed=1))])
    named = [replace(item, truth=[replace(entry, label=2) for entry in item.truth]) for item in noisy_records(0)]
    with pytest.raises(UserError, match="classes"):
        check_same_test([made_run(noisy_records(0)), made_run(named)])


def test_another_numbering_is_refused() -> None:
    other = noisy_records(0)
    swapped = [replace(other[0], image_id=2), replace(other[1], image_id=1), *other[2:]]
    with pytest.raises(UserError, match="number their test images differently"):
        check_same_test([made_run(noisy_records(0)), made_run(swapped)])


def test_what_is_not_set_is_not_a_difference() -> None:
    older = OmegaConf.create(config())
    newer = OmegaConf.create(config(paste=None, num_workers=4, cache_mb=9))
    newer.model.weights = "none"
    assert settings_of(older) == settings_of(newer)


def test_a_line_per_setting_that_differs() -> None:
    lines = differences({"A": {"seed": 0, "x": 1}, "B": {"seed": 1, "x": 1}, "C": {"seed": 0, "x": 1, "y": [1, 2]}})
    assert lines == ["seed differs: 0 (A, C), 1 (B)", "y differs: none (A, B), [1, 2] (C)"]


def test_budget_seed_scale_and_machine_are_reported() -> None:
    machine = {"device": "cpu", "threads": 2}
    first = made_run(noisy_records(0), timing={"training": {"steps": 100}, "machine": machine})
    second = made_run(
        noisy_records(0),
        noisy_records(1),
        "cascade",
        "runs/kemr",
        {"training": {"steps": 90}, "machine": machine | {"threads": 1}},
        seed=1,
        steps=200,
        resize=[1280, 1024],
    )
    rows = systems_of([first, second], "never")
    assert warnings_for(rows) == [
        "data.resize differs: none (Mask R-CNN), [1280, 1024] (KEMR-Net)",
        "seed differs: 0 (Mask R-CNN), 1 (KEMR-Net)",
        "trainer.max_steps differs: 100 (Mask R-CNN), 200 (KEMR-Net)",
        "steps trained differs: 100 (Mask R-CNN), 90 (KEMR-Net)",
        "timing: threads differs: 2 (Mask R-CNN), 1 (KEMR-Net)",
    ]


def test_views_and_mask_threshold_of_the_tests_are_reported() -> None:
    plain, other = made_run(noisy_records(0)), made_run(noisy_records(0), kind="blendmask", directory="runs/b")
    other.config.views, other.config.metric.threshold = 4, 0.4
    assert warnings_for(systems_of([plain, other])) == [
        "metric.threshold differs: 0.5 (Mask R-CNN), 0.4 (BlendMask)",
        "views differs: 1 (Mask R-CNN), 4 (BlendMask)",
    ]


def test_where_rows_come_from() -> None:
    kemr = made_run(noisy_records(0), noisy_records(1), "cascade", "runs/kemr", seed=1)
    knowing = made_run(noisy_records(0), noisy_records(1), "cascade", "runs/knowing")
    knowing.config.knowledge = "some/where/knowledge.safetensors"
    lines = origins_of(systems_of([kemr, knowing]), lambda path: f"{path.parts[1]:-<16}and more")
    checkpoint = "checkpoint kemr------------ (SHA-256), chosen by val/MaskAP"
    assert lines[0] == (
        f"Cascade Mask R-CNN (seed 1): seed 1, {checkpoint}; the KEMR-Net run before its refinement, chosen by its "
        "refined masks"
    )
    assert f"KEMR-Net (seed 1): seed 1, {checkpoint}, refined by CRF sigma_alpha=2.0" in lines
    assert lines[-1].endswith("refined by knowledge knowledge.safetensors")
