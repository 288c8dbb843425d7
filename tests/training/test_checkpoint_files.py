"""Checkpoint files: whole, checked, and as they were when the disk is full."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.training.checkpoint_files import CheckpointFiles, load_whole, write_checkpoint


def content(seed: int = 0) -> dict[str, Any]:
    made = torch.Generator().manual_seed(seed)
    return {"state_dict": {"weight": torch.randn((40, 50), generator=made), "count": torch.tensor(3)}, "epoch": seed}


def test_what_was_written_is_read_and_by_pytorch_alone_too(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "last.ckpt"
    CheckpointFiles().save_checkpoint(content(), file)
    for read in (CheckpointFiles().load_checkpoint(file), torch.load(file, weights_only=True)):
        assert torch.equal(read["state_dict"]["weight"], content()["state_dict"]["weight"])
        assert read["epoch"] == 0
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("write", [write_checkpoint, torch.save], ids=["with a checksum", "without"])
def test_a_flipped_bit_never_loads_with_other_weights(tmp_path: Path, write: Callable[[Any, Path], None]) -> None:
    file = tmp_path / "a.ckpt"
    write(content(), file)
    whole = file.read_bytes()
    draw = random.Random(7)
    told: list[str] = []
    for place in [*(draw.randrange(len(whole)) for _ in range(60)), *range(len(whole) - 80, len(whole), 4)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
        try:
            read = load_whole(file)
        except UserError as error:
            told.append(str(error))
        else:
            assert torch.equal(read["state_dict"]["weight"], content()["state_dict"]["weight"])
    assert all(str(file) in line and "\n" not in line for line in told)
    assert len(told) == 80 or write is not write_checkpoint


def test_a_file_that_is_cut_off_or_empty_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    write_checkpoint(content(), file)
    whole = file.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 76, len(whole) - 64, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"is empty|damaged"):
            load_whole(file)
    with pytest.raises(UserError, match="does not exist"):
        load_whole(tmp_path / "b.ckpt")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("write", [write_checkpoint, torch.save], ids=["with a checksum", "without"])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, bad: float, write: Callable[[Any, Path], None]
) -> None:
    broken = content()
    broken["state_dict"]["weight"][3, 4] = bad
    write(broken, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"not finite numbers \(weight\)"):
        load_whole(tmp_path / "a.ckpt")


def test_a_limit_of_file_sizes_leaves_the_earlier_file(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    write_checkpoint(content(1), file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(
            UserError, match=r"last\.ckpt cannot be written \(File too large\).*earlier one is unchanged"
        ):
            write_checkpoint(content(2), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_whole(file)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
