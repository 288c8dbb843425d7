"""Heat maps: which numbers are on the axes, and what is in their cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kemr_lightning.sweep import heat_map
from kemr_lightning.sweep.heat_map import draw_heat_map
from kemr_lightning.sweep.job_records import JobRecord
from tests.sweep.helpers import done

ALPHA, BETA = "refine.sigma_alpha", "refine.sigma_beta"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was drawn last: values of the cells (-1 for none), what they say, and the labels."""
    found: dict[str, Any] = {}

    class Kept(heat_map.Figure):
        def savefig(self, *args: Any, **kwargs: Any) -> None:
            (axes, *_) = self.axes
            found["values"] = axes.images[0].get_array().filled(-1).tolist()  # type: ignore[union-attr]
            found["said"] = [text.get_text() for text in axes.texts]
            found["axes"] = (axes.get_ylabel(), axes.get_xlabel())
            found["ticks"] = [text.get_text() for text in axes.get_xticklabels()]
            found["title"] = axes.get_title()
            super().savefig(*args, **kwargs)

    monkeypatch.setattr(heat_map, "Figure", Kept)
    return found


def grid(*cells: tuple[str, str, float]) -> list[JobRecord]:
    return [done(i, {BETA: beta, ALPHA: alpha}, MaskAP=value) for i, (alpha, beta, value) in enumerate(cells)]


def test_sigma_alpha_goes_down_and_sigma_beta_across(tmp_path: Path, drawn: dict[str, Any]) -> None:
    records = grid(("2", "9", 50), ("10", "9", 51), ("10", "15.0", 60), ("10", "26", 61))
    assert draw_heat_map(records, "MaskAP", tmp_path / "a.png")
    assert drawn["values"] == [[50, -1, -1], [51, 60, 61]]  # 2 before 10: numbers, not words
    assert drawn["axes"] == (ALPHA, BETA)
    assert drawn["ticks"] == ["9", "15", "26"]
    assert drawn["said"] == ["50.00", "–", "–", "51.00", "60.00", "61.00"]
    assert drawn["title"] == "MaskAP, percent"
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_what_is_on_no_axis_is_averaged_over(tmp_path: Path, drawn: dict[str, Any]) -> None:
    records = [
        done(i, {"seed": str(seed), "w1": str(w1), "model": "ab"[seed]}, MaskAP=10.0 * w1 + seed)
        for i, (seed, w1) in enumerate([(0, 1), (1, 1), (0, 2)])
    ]
    assert draw_heat_map(records, "MaskAP", tmp_path / "a.png")
    assert (drawn["axes"], drawn["values"]) == (("w1", "seed"), [[10, 11], [20, -1]])
    assert drawn["title"] == "MaskAP, percent (mean over model)"
    several = [
        done(i, {"seed": str(i), "w2": "4", ALPHA: "3", BETA: "9"}, MaskAP=float(value))
        for i, value in enumerate((10, 14))
    ]
    assert draw_heat_map(several, "MaskAP", tmp_path / "a.png")
    assert (drawn["axes"], drawn["values"]) == ((ALPHA, BETA), [[12]])


def test_one_number_is_one_row(tmp_path: Path, drawn: dict[str, Any]) -> None:
    records = [done(i, {"w1": value}, IA=float(i)) for i, value in enumerate(("1e1", "2"))]
    assert draw_heat_map(records, "IA", tmp_path / "a.png")
    assert (drawn["axes"], drawn["values"], drawn["ticks"]) == (("", "w1"), [[1, 0]], ["2", "10"])


def test_without_numbers_or_figures_nothing_is_drawn(tmp_path: Path) -> None:
    unfinished = done(2, {"w1": "3"}, MaskAP=50.0)
    unfinished.status = "running"
    for records in (
        [],
        [unfinished],
        [done(0, {"w1": "3"}, MaskAP=None)],
        [done(0, {"model": "a"}, MaskAP=50.0)],
        [done(0, {"w1": "3"}, MaskAP=50.0), done(1, {"w1": "automatic"}, MaskAP=50.0)],
    ):
        assert not draw_heat_map(records, "MaskAP", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
