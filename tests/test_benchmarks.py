"""The arithmetic of the benchmarks; what they measure is measured by running them."""

from __future__ import annotations

import sys

import pytest

from benchmarks import scale, sweep


def test_hours_of_a_training() -> None:
    # 720 images, 100 epochs, batch 2: 36,000 steps; one device sends no gradients.
    assert scale.training_hours(0.34, 720, 100, 2, 1, 4e8, 1e11) == (36_000, pytest.approx(3.4), 0)
    # Eight devices: an eighth of the steps, each longer by 2 * 7/8 * 0.4 GB at 0.1 GB/s = 7 s.
    steps, hours, part = scale.training_hours(1.0, 720, 100, 2, 8, 4e8, 1e8)
    assert steps == 4500
    assert hours == pytest.approx(4500 * 8 / 3600)
    assert part == pytest.approx(7 / 8)


def test_hours_of_a_sweep() -> None:
    # One process: starts once, 100 s for the first job, 99 further ones of 10 s.
    alone, together = scale.sweep_hours(100, 10, 20, 100, 10)
    assert alone * 3600 == pytest.approx(20 + 100 + 99 * 10)
    # Ten at once: the first alone, for the others wait for its predictions; then ten rounds, each of which starts.
    assert together * 3600 == pytest.approx(20 + 100 + 10 * (20 + 10))
    assert scale.sweep_hours(100, 10, 20, 1, 64) == (pytest.approx(120 / 3600), pytest.approx(120 / 3600))


def test_what_a_further_setting_may_cost() -> None:
    assert sweep.too_dear("cascade_mask_rcnn_r101", 100, {"further job": 5.0, "trial": 1}) == []
    (line,) = sweep.too_dear("cascade_mask_rcnn_r101", 100, {"further job": 5.1, "trial": 1})
    assert "a further job costs 0.051 of a full test, allowed is 0.050" in line
    assert len(sweep.too_dear("cascade_mask_rcnn_tiny", 1, {"further job": 0.3, "trial": 0.3})) == 2
    assert sweep.too_dear("another", 1, {"further job": 2}) == []


@pytest.mark.parametrize(("job", "code"), [(4.0, 0), (6.0, 1)])
def test_the_command_fails_beyond_it(job: float, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "measure", lambda *_: [100.0, 101.0, job, 1.0])
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--models", "cascade_mask_rcnn_r101"])
    with pytest.raises(SystemExit) as caught:
        sweep.main()
    assert caught.value.code == code
