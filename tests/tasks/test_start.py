"""What every task does before anything else."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from kemr_lightning.core.errors import UserError
from kemr_lightning.tasks.start import start
from tests.conftest import compose


def test_every_generator_is_seeded(tmp_path: Path) -> None:
    config = compose("data.root=in", "seed=7", f"paths.run_dir='{tmp_path}'")
    drawn = []
    for _ in range(2):
        start(config)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(1))))  # noqa: NPY002
    assert drawn[0] == drawn[1]


def test_the_resolved_configuration_is_written(tmp_path: Path) -> None:
    directory = start(compose("data.root=in", "seed=7", f"paths.run_dir='{tmp_path / 'run'}'"))
    assert directory == tmp_path / "run"
    written = OmegaConf.load(directory / "config.yaml")
    assert (written.data.seed, written.data.root) == (7, "in")
    assert "${" not in (directory / "config.yaml").read_text()


@pytest.mark.parametrize("given", [(), ("data.root=null",)])
def test_the_folder_is_asked_for(tmp_path: Path, given: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"data\.root is not given"):
        start(compose(f"paths.run_dir='{tmp_path}'", *given))
