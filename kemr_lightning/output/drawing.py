"""What all pictures of a run share: colours, tidy axes, and files that are written atomically."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kemr_lightning.core.files import atomic_write

# Colours of Okabe and Ito, which people with any kind of colour vision can distinguish.
TRUTH, INITIAL, REFINED, FRAME = "#009E73", "#56B4E9", "#D55E00", "#F0E442"
NAMES = {"truth": "ground truth", "initial": "initial", "refined": "refined"}
COLOURS = {"truth": TRUTH, "initial": INITIAL, "refined": REFINED}


def tidy(axes: Axes) -> None:
    """Remove the frame above and to the right of a curve, and put a light grid behind it."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture atomically.

    Args:
        figure: The picture.
        path: The PNG to write.
        dpi: Pixels per inch.
    """
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, pil_kwargs={"compress_level": 3})
