"""Names that programs outside the package import, and how they call them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest


@pytest.mark.parametrize(
    "statement",
    [
        "from kemr_lightning.refinement import CRFParams, refine_probability",
        "from kemr_lightning.refinement import Knowledge; Knowledge.save, Knowledge.load, Knowledge.describe",
        "from kemr_lightning.data.labelme import read_labelme, write_labelme",
        "import kemr_lightning; kemr_lightning.load",
    ],
)
def test_each_import_works_by_itself(statement: str) -> None:
    """In a process of its own: what another import has loaded before would hide a circle."""
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_parameters_go_by_name() -> None:
    from kemr_lightning.refinement import CRFParams, refine_probability

    params = CRFParams(sigma_alpha=2, sigma_beta=9, sigma_gamma=3, w1=3, w2=1, iterations=2, temperature=1.0)
    image, prob = np.full((6, 8), 90, np.uint8), np.full((6, 8), 0.7)
    for engine in ("torch", "exact"):
        refined = refine_probability(image, prob, params, engine=engine)
        assert isinstance(refined, np.ndarray)
        assert (refined.shape, refined.dtype) == ((6, 8), np.float32)


def test_labelme_files_are_written_by_position() -> None:
    from kemr_lightning.data.labelme import write_labelme

    assert list(inspect.signature(write_labelme).parameters)[:3] == ["json_path", "image_path", "instances"]
