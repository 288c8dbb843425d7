"""Wrong command lines: one line that names the key, exit status 2, nothing started, no traceback."""

from __future__ import annotations

import shlex
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
from omegaconf import DictConfig

from kemr_lightning.core.errors import UserError
from kemr_lightning.tasks import command_line, run
from kemr_lightning.tasks.command_line import check_arguments, with_texts
from tests.conftest import CONF, compose
from tests.test_run import command

WRONG = """
data.batch_size=0
data.num_workers=-1
data.resize=640
data.resize=[640]
seed=-1
seed=1.5
data.augmentation.crop_size=96
data.augmentation.crop_size=[0,0]
data.augmentation.scale=[2,1]
data.augmentation.gamma=[0,1]
data.augmentation.blur_p=2
data.augmentation.rotate=-3
data.augmentation.turns=2
optimizer.lr=-1
optimizer.lr=fast
optimizer.weight_decay=-0.1
scheduler.warmup_fraction=2
scheduler=multistep scheduler.milestones=[9,3]
callbacks.ema.decay=2
callbacks.checkpoint.mode=best
callbacks.figures.val_images=-1
callbacks.log_interval.points=0
+callbacks.ema.dekay=0.9
+callbacks.mine._target_=no.such.Callback
+trainer.precision=7
+trainer.overfit_batches=1
trainer.max_steps=0
trainer.max_steps=many
trainer.max_epochs=0
trainer.devices=99
trainer.devices=0
trainer.limit_train_batches=-1
trainer.limit_val_batches=2.5
trainer.val_check_interval=0
trainer.max_time=later
trainer.gradient_clip_val=-1
trainer.enable_model_summary=7
+trainer.precison=32
trainer.max_stepps=7
data.val_fraction=0
data.val_fraction=2
data.cache_mb=-5
data.epoch_samples=0
data.group_pattern='('
data.label_map=7
data.follow_links=perhaps
+data.batchsize=3
data=synthetic data.look=blue
data=synthetic data.overlap=7
data=synthetic data.train_images=0
data=cooc
model=resnet
model=7
model.heads.nms_threshold=0
model.heads.samples=0
model.anchor_sizes=[18,32]
model.backbone.channels=[0]
metric.ia_iou=0
refine.w1=much
refine.iterations=1.5
views=0
views=9
name=
paths.runs=
+logger.wandb.colour=red
logger.wandb.log_model=some
+nonsense=7
task=learn learn.settings.evidence=7
task=learn learn.settings.folds=x
task=tune tune.timeout=x
task=tune tune.trials=0
task=tune search.w1.low=x
task=predict predict.beside=7
task=predict predict.tile=3
task=doctor doctor.listed=x
task=convert convert.to=coco convert.min_iou=7
task=compare runs=folder
task=compare experiments=[kemr_tiny] compare.level=7
hydra.run.dir=/dev/null/run
+logger.wandb.api_key=abc
data.root=a,b
data.root=a=b
trainer.accelerator=abacus trainer.devices=99 optimizer.lr=-1
""".strip().splitlines()


@lru_cache
def composed(words: tuple[str, ...]) -> DictConfig:
    return compose(*words)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_is_one_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is composed here is the same for most of them.
    monkeypatch.setattr(
        command_line, "_composed", lambda chosen, _: cached(tuple(f"{e.key_or_group}={e.value()}" for e in chosen))
    )
    words = [f"data.root='{tmp_path}'", *with_texts(shlex.split(line, posix="=(" not in line))]
    words = words[1:] if "data=synthetic" in line or "data.root" in line else words
    key = words[-1].split("=")[0].lstrip("+")
    try:
        check_arguments(words, CONF)
        with pytest.raises(SystemExit) as ended:
            run(compose(f"paths.run_dir='{tmp_path / 'run'}'", *words))
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
    except UserError as error:
        said = str(error)
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said
    assert key.removesuffix(".low").removesuffix("._target_") in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def cached(words: tuple[str, ...]) -> DictConfig:
    """The configuration of some groups; a group that is wrong is refused as usual."""
    if any(not (CONF / word.split("=")[0] / f"{word.split('=')[1]}.yaml").is_file() for word in words):
        return ORIGINAL([command_line._parsed(word) for word in words], CONF)
    return composed(words)


ORIGINAL = command_line._composed


def test_there_are_sixty() -> None:
    assert len(WRONG) >= 60


def check(done: subprocess.CompletedProcess[str], key: str) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert key in line


@pytest.mark.parametrize(
    ("line", "key"), [("data.batch_size=0", "data.batch_size"), ("+trainer.precision=7", "trainer.precision")]
)
def test_the_same_from_the_shell(tmp_path: Path, line: str, key: str) -> None:
    check(command("experiment=kemr_tiny", f"data.root='{tmp_path}'", *shlex.split(line), cwd=tmp_path), key)


@pytest.mark.parametrize("name", ["it's", "a,b", "a=b", "it's a=b, c"])
def test_the_advice_for_a_path_works_when_it_is_pasted(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments([f"data.root={name}"], CONF)
    advice = str(caught.value)
    start = advice.index("'data.root=")
    word = next(shlex.split(advice[start:end])[0] for end in range(len(advice), start, -1) if closes(advice[start:end]))
    check_arguments(with_texts([word]), CONF)
    assert compose(word).data.root == name


def closes(text: str) -> bool:
    try:
        return len(shlex.split(text)) == 1
    except ValueError:
        return False


@pytest.mark.parametrize("value", ["2024_05_12", "1e3", "17", "true"])
def test_what_looks_like_a_number_stays_a_text(value: str) -> None:
    keys = ("data.root", "ckpt", "init", "knowledge", "name", "hydra.run.dir")
    words = with_texts([f"{key}={value}" for key in keys])
    check_arguments(words, CONF)
    config = compose(*words)
    assert [config.data.root, config.ckpt, config.init, config.knowledge, config.name] == [value] * 5
    assert command_line._values(command_line._parsed(words[-1])) == [value]
    (runs,) = with_texts([f"runs=[{value},b]"])
    assert list(compose("task=compare", runs).runs) == [value, "b"]
    assert with_texts(["-m", f"ckpt={value},b", "ckpt=null", "seed=17"]) == [
        *("-m", f"ckpt='{value}',b", "ckpt=null", "seed=17")
    ]
