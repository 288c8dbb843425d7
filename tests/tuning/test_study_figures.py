from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

from kemr_lightning.tuning import study_figures
from kemr_lightning.tuning.study_figures import draw_history, draw_importance, points_of


def trial(number: int, value: float | None, **parts: float) -> FrozenTrial:
    """A complete trial, or without a value a pruned one; parts are named p0, p1, ..."""
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    values = {int(name[1:]): figure for name, figure in parts.items()}
    made = create_trial(state=state, value=value, intermediate_values=values)
    made.number = number
    return made


TRIALS = [
    trial(3, 71.0),
    trial(0, 70.0, p0=60.0),
    trial(2, None, p1=55.0, p0=50.0),
    trial(1, 68.0),
    trial(4, None),  # pruned before it reported anything
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would be saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(study_figures, "save", lambda figure, path, dpi: figures.append(figure))
    return figures


def test_points_of_trials() -> None:
    assert points_of(TRIALS) == ([(0, 70.0), (1, 68.0), (3, 71.0)], [(2, 55.0)])


def test_a_history(drawn: list[Figure], tmp_path: Path) -> None:
    draw_history(TRIALS, "MaskAP", {"without refinement": 65.0, "configured": 69.0}, tmp_path / "history.png")
    (axes,) = drawn[0].axes
    lines = {str(line.get_label()): list(line.get_ydata()) for line in axes.lines}
    assert lines == {
        "pruned, at its last part": [55.0],
        "complete": [70.0, 68.0, 71.0],
        "best: 71.00": [70.0, 70.0, 71.0],
        "without refinement: 65.00": [65.0, 65.0],
        "configured: 69.00": [69.0, 69.0],
    }
    assert axes.get_ylabel() == "MaskAP, percent"


def test_a_history_of_pruned_trials_alone(drawn: list[Figure], tmp_path: Path) -> None:
    draw_history(TRIALS[2:3], "IA", {}, tmp_path / "history.png")
    assert len(drawn[0].axes[0].lines) == 1


def test_importance_rises(drawn: list[Figure], tmp_path: Path) -> None:
    draw_importance({"w1": 0.7, "w2": 0.1, "sigma_alpha": 0.2}, "MaskAP", tmp_path / "importance.png")
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["w2", "sigma_alpha", "w1"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
    assert [text.get_text() for text in axes.texts] == ["0.10", "0.20", "0.70"]


def test_files_are_pictures(tmp_path: Path) -> None:
    draw_importance({"w1": 0.7, "w2": 0.3}, "MaskAP", tmp_path / "new folder" / "importance.png")
    picture = np.asarray(Image.open(tmp_path / "new folder" / "importance.png"))
    assert picture.shape[:2] == (round(1.9 * 130), 6 * 130)
    assert picture.std() > 0
