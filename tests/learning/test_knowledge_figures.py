from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from kemr_lightning.learning import knowledge_figures
from kemr_lightning.learning.fit_crf import Fit
from kemr_lightning.learning.knowledge_figures import draw_fits, draw_states
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.states import STATE_NAMES
from tests.learning.helpers import experiences

FIT = Fit(CRFParams(), 0.9, [(0, float("nan"), 0.8), (8, 0.4, 0.9)])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would be saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(knowledge_figures, "save", lambda figure, path, dpi: figures.append(figure))
    return figures


def test_states_are_drawn_by_fifths(drawn: list[Figure], tmp_path: Path) -> None:
    draw_states(experiences(100), ["crf"], tmp_path / "states.png")
    first, second, *_ = drawn[0].axes
    heights = [bar.get_height() for bar in first.patches]
    # Fifths of 20: 20 lose, 20 lose, 10 lose and 10 gain, 20 gain, 20 gain.
    assert heights[:5] == [0, 0, 50, 100, 100]
    assert heights[5:] == [-100, -100, -50, 0, 0]
    assert first.lines[0].get_ydata() == pytest.approx([-100, -100, 0, 100, 100], abs=1e-3)
    assert second.get_title() == f"{STATE_NAMES[1]} (always 0)"
    assert not second.patches
    assert len(drawn[0].axes) % 4 == 0


def test_only_the_first_action_is_drawn(drawn: list[Figure], tmp_path: Path) -> None:
    one = experiences(100)
    two = Experiences(
        one.states.repeat(2, 1),
        torch.cat([one.actions, one.actions + 1]),
        one.before.repeat(2),
        torch.cat([one.after, torch.full((100,), 0.9)]),
        one.images.repeat(2),
    )
    draw_states(two, ["crf", "evidence + crf"], tmp_path / "states.png")
    assert [bar.get_height() for bar in drawn[0].axes[0].patches][:5] == [0, 0, 50, 100, 100]


def test_curves_of_all_fits(drawn: list[Figure], tmp_path: Path) -> None:
    draw_fits(
        {"crf": [FIT, FIT], "evidence + crf": [FIT]}, [(0, 1, 0.9), (0, 2, 0.7), (-1, 1, 0.8)], tmp_path / "a.png"
    )
    evidence, crf, both = drawn[0].axes
    curves = {line.get_label(): list(line.get_ydata()) for line in evidence.lines}
    assert curves == {"all images": [0.8], "without fold 1": [0.9, 0.7]}
    assert [list(line.get_ydata()) for line in crf.lines] == [[0.8, 0.9]] * 2
    assert [line.get_label() for line in both.lines] == ["start 1: best 0.9000"]


def test_files_are_pictures(tmp_path: Path) -> None:
    draw_fits({"crf": [FIT]}, [], tmp_path / "new folder" / "learning.png")
    picture = np.asarray(Image.open(tmp_path / "new folder" / "learning.png"))
    assert picture.shape[:2] == (round(3.4 * 130), 9 * 130)
    assert picture.std() > 0
