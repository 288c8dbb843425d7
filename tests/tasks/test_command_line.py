"""Mistyped commands: one line that says what is wrong, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.tasks.command_line import check_arguments

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.max_steps=abc"], r"trainer\.max_steps=abc is not a number\. Give a whole number, 1 or more"),
        (["seed=abc"], "seed=abc is not a number"),
        (["optimizer.lr=1e-3x"], r"optimizer\.lr=1e-3x is not a number"),
        (["trainer.max_steps=true"], "true is not a number"),
        (["trainer.enable_model_summary=maybe"], "Give true or false"),
        (["data.rot=FOLDER"], r"data\.rot is not a key.* Did you mean data\.root"),
        (["trainer.max_step=20"], r"Did you mean trainer\.max_steps"),
        (["experimnt=kemr_tiny"], "Did you mean experiment"),
        (["experiment=kemr"], "experiment=kemr is not known. Choose one of .*kemr_tiny"),
        (["task=tst"], "task=tst is not known. Choose one of .*test"),
        (["ckpt=some/a=b.ckpt"], r"""ckpt=some/a=b\.ckpt: .*'ckpt='"'"'some/a=b\.ckpt'"'"''"""),
        (["data.root=~/images"], f"Write data.root={Path.home()}/images"),
        (["-m", "refine.sigma_alpha=2,x"], r"refine\.sigma_alpha=x is not a number"),
    ],
)
def test_mistakes_are_named_with_what_was_meant(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_arguments(["experiment=kemr_tiny", *words] if not words[0].startswith("experiment=") else words, CONF)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["experiment=kemr_tiny", "data.root=a folder", "seed=3", "optimizer.lr=1", "data.resize=[1280,1024]"],
        ["experiment=demo", "data.augmentation.crop_size=null", "+extra.key=1", "hydra.run.dir=x"],
        ["-m", "experiment=sigma_sweep", "ckpt='a=b.ckpt'", "refine.sigma_alpha=2,3.5", "seed=range(0,3)"],
        ["experiment=mask_rcnn_tiny,kemr_tiny", "-m", "refine=none"],
        ["experiment=kemr_tiny", "~callbacks.figures"],
    ],
)
def test_good_commands_pass(words: list[str]) -> None:
    check_arguments(words, CONF)
