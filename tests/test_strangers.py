"""Run directories, sweeps and data folders of strangers: nothing in them runs code or shows what lies elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from kemr_lightning.comparison.runs import read_config, read_run
from kemr_lightning.core.config_migration import read_plain
from kemr_lightning.core.errors import UserError
from kemr_lightning.sweep.job_records import read_records
from kemr_lightning.sweep.jobs import _varied
from kemr_lightning.tasks import run, user_message
from tests.conftest import CONF, compose, write_image

ATTACKS: dict[str, Any] = {
    "plain": {"_target_": "os.mkdir", "path": "HARM"},
    "positional": {"_target_": "os.system", "_args_": ["mkdir HARM"]},
    "partial": {"_target_": "os.mkdir", "_partial_": True, "path": "HARM"},
    "nested": {
        "_target_": "kemr_lightning.data.datamodule.SegmentationDataModule",
        "root": {"_target_": "pathlib.Path.mkdir", "self": {"_target_": "pathlib.Path", "_args_": ["HARM"]}},
    },
    "pickle": {"_target_": "numpy.load", "allow_pickle": True, "file": {"_target_": "io.BytesIO", "_args_": ["x"]}},
    "ours": {"_target_": "kemr_lightning.core.files.write_text", "path": "HARM", "text": "x"},
    "through ours": {"_target_": "kemr_lightning.core.files.os.mkdir", "path": "HARM"},
    "in a list": {
        "_target_": "kemr_lightning.refinement.Refiner.from_values",
        "engine": [{"x": [{"_target_": "os.mkdir", "path": "HARM"}]}],
    },
    "hydra": {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.mkdir", "path": "HARM"}},
    "eval": {"_target_": "builtins.eval", "_args_": ["__import__('os').mkdir('HARM')"]},
}


def harmed(node: Any, harm: Path) -> Any:
    return json.loads(json.dumps(node).replace("HARM", str(harm)))


def run_directory(folder: Path, **nodes: Any) -> Path:
    """The configuration of a run, with some nodes replaced."""
    settings: Any = OmegaConf.to_container(compose("paths.run_dir=x", "data.root=x"), resolve=True)
    folder.mkdir()
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({**settings, **nodes}))
    return folder


@pytest.mark.parametrize("node", ["data", "refine"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_run_to_compare_builds_nothing_foreign(tmp_path: Path, node: str, attack: str) -> None:
    harm = tmp_path / "harm"
    directory = run_directory(tmp_path / "run", **{node: harmed(ATTACKS[attack], harm)})
    with pytest.raises(UserError, match=r"config\.yaml names .* which is not a part of this package"):
        read_run(directory)
    assert not harm.exists()


def test_the_task_refuses_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harm = tmp_path / "harm"
    directory = run_directory(tmp_path / "run", refine=harmed(ATTACKS["plain"], harm))
    with pytest.raises(SystemExit) as ended:
        run(compose("task=compare", f"runs=['{directory}','{directory}']", f"paths.run_dir='{tmp_path / 'out'}'"))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "names 'os.mkdir', which is not a part of this package" in line
    assert not harm.exists()


def test_what_the_users_own_configuration_names_is_the_users(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", refine={"_target_": "mine.Refiner"})
    with pytest.raises(UserError, match="not a part"):
        read_run(directory)
    with pytest.raises(UserError, match=r"metrics\.json"):  # the next thing that is missing
        read_run(directory, {"mine.Refiner"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {root: '${oc.env:HOME}'}", "unresolved"),
        ("data: {root: a}\nname: '${hydra:runtime.cwd}'", "unresolved"),
        ("a: &a [1,1,1]\nb: [*a,*a]\ndata: {root: a}", "references"),
        ("data: " + "[" * 5000 + "]" * 5000, "cannot be read"),
        ("data: !!python/object/apply:os.mkdir [harm]", "cannot be read"),
        ("- a", "mapping"),
        ("x: " + "a" * 4_000_001, "too large"),
    ],
)
def test_configurations_that_no_run_writes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(tmp_path)


def test_a_sweep_resolves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE", "hush")
    given = ["name=${oc.env:PRIVATE}", "seed=1"]
    OmegaConf.save(OmegaConf.create({"hydra": {"overrides": {"task": given}}}), tmp_path / "multirun.yaml")
    assert read_plain(tmp_path / "multirun.yaml")["hydra"]["overrides"]["task"] == given
    assert _varied(tmp_path, [*given, "seed=2"]) == {"seed": "2"}
    for number in (0, 1):
        job = tmp_path / str(number)
        job.mkdir()
        (job / "config.yaml").write_text("name: ${oc.env:PRIVATE}\n")
        overrides = [f"seed={number}", *(["name=a"] if number else [])]
        record = {"number": number, "overrides": overrides, "varied": {}, "identity": str(number)}
        (job / "job.json").write_text(json.dumps(record))
    assert [item.varied["name"] for item in read_records(tmp_path)] == ["", "a"]


def coco(root: Path) -> None:
    write_image(root, "a", seed=1, annotated=False)
    image = {"id": 1, "file_name": "a.png", "width": 128, "height": 96}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "segmentation": []}
    box["segmentation"] = [[1, 1, 10, 1, 10, 10, 1, 10]]
    document = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "chr"}]}
    (root / "a.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "words",
    [
        ("task=doctor",),
        ("task=doctor", "data=coco"),
        ("task=convert", "convert.to=coco"),
        ("task=train", "model.backbone.channels=[8,8,8,8]"),
        ("task=train", "data=coco"),
    ],
)
def test_links_out_of_the_data_are_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    root, away = tmp_path / "data", tmp_path / "private"
    coco(root) if "data=coco" in words else write_image(root, "a", seed=1)
    away.mkdir()
    Image.new("L", (128, 96), 9).save(away / "secret.png")
    (root / "b.png").symlink_to(away / "secret.png")
    with pytest.raises(SystemExit) as ended:
        run(compose(*words, f"data.root='{root}'", f"paths.run_dir='{tmp_path / 'run'}'", "logger=csv"))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "data.follow_links=false does not follow links out of" in line
    assert "b.png" in line


SECRET = "wandb_v1_0123456789abcdefghij0123456789"


@pytest.mark.parametrize(
    "words",
    [
        ("+logger.wandb.api_key=" + SECRET,),
        ("--config-dir", "own", "+secret=key"),
        ("-m", "seed=1,2", "+logger.wandb.settings.api_key=" + SECRET),
    ],
)
def test_keys_of_wandb_reach_no_file(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "own" / "secret").mkdir(parents=True)
    own = tmp_path / "own" / "secret" / "key.yaml"
    own.write_text(f"# @package logger.wandb\nsettings: {{api_key: {SECRET}}}\n")
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "WANDB_MODE": "offline"}
    command = [sys.executable, str(CONF.parent / "run.py"), "data=synthetic", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "wandb login" in line
    assert SECRET not in done.stdout + done.stderr
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text(errors="ignore")]
    assert holders == [own]


def test_lightnings_refusals_are_the_users() -> None:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    assert user_message(MisconfigurationException("no\n  batches")) == "trainer: no batches"
