"""Where a result comes from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kemr_lightning.training.provenance import provenance


def test_names_and_the_checkpoint_s_digest(tmp_path: Path) -> None:
    file = tmp_path / "run" / "best.ckpt"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    assert provenance(file, tmp_path / "my data", "val") == {
        "checkpoint": "best.ckpt",
        "checkpoint_sha256": hashlib.sha256(b"weights").hexdigest(),
        "data": "my data, val images",
    }
    assert provenance(str(file), "synthetic", "train")["data"] == "synthetic, train images"


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.ckpt"):
        provenance(tmp_path / "none.ckpt", "data", "test")
