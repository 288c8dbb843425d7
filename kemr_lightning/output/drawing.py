"""What every picture of a run shares: colours, tidy axes, files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kemr_lightning.core.files import whole

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
TRUTH, INITIAL, REFINED, FRAME = "#009E73", "#56B4E9", "#D55E00", "#F0E442"
NAMES = {"truth": "ground truth", "initial": "initial", "refined": "refined"}
COLOURS = {"truth": TRUTH, "initial": INITIAL, "refined": REFINED}


def tidy(axes: Axes) -> None:
    """Leave out what a curve does not need."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture, whole or not at all."""
    FigureCanvasAgg(figure)
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi, pil_kwargs={"compress_level": 3})
