"""``task=tune`` from the command's overrides to the knowledge file."""

from __future__ import annotations

import csv
import json
import logging
import shlex
import shutil
from pathlib import Path

import pytest

from kemr_lightning.core.overrides import override
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.tuning.scoring import SCORES
from kemr_lightning.tuning.study import Search
from tests.conftest import run_task
from tests.helpers import read_run


@pytest.fixture(scope="module")
def tuned(trained: Path, labelme_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run directory of task=tune, and the overrides to do it again."""
    run_dir = tmp_path_factory.mktemp("tuned") / "run"
    file = trained / "checkpoints" / "best.ckpt"
    overrides = [
        "task=tune",
        f"ckpt='{file}'",
        f"data.root='{labelme_root}'",
        "search=sigmas",
        "tune.trials=6",
        "tune.startup=2",
        f"tune.storage='{run_dir.parent / 'study.journal'}'",
        f"paths.store='{run_dir.parent / 'store'}'",
        # A barely trained model's scores are low: it has to be asked for all of its instances.
        "metric.ia_score=0.0",
    ]
    return run_task(run_dir, *overrides), overrides


def test_files_of_a_tuning(tuned: tuple[Path, list[str]]) -> None:
    run_dir, _ = tuned
    found = json.loads((run_dir / "tune.json").read_text())
    assert found["trials"] == 6
    assert found["best"]["MaskAP"] >= found["configured"]["MaskAP"]
    knowledge = Knowledge.load(run_dir / "knowledge.safetensors")
    assert knowledge.experiences is None
    (action,) = knowledge.actions
    assert vars(action.params) == found["params"]
    with (run_dir / "trials.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 6
    assert (run_dir / "figures" / "history.png").stat().st_size > 1000
    run = read_run(run_dir)
    assert (run.job_type, run.exit_code) == ("tune", 0)
    with (run_dir / "trials.csv").open(newline="") as stream:
        table = {int(row["trial"]): row for row in csv.DictReader(stream)}
    logged = {int(row["trainer/global_step"]): row for row in run.history if "trial/sigma_alpha" in row}
    assert logged.keys() == table.keys()
    for number, row in logged.items():
        assert row["trial/sigma_alpha"] == pytest.approx(float(table[number]["sigma_alpha"]))
        assert bool(row["trial/pruned"]) == (table[number]["state"] == "pruned")
    (artifact,) = run.artifact("knowledge")
    assert {entry.path for entry in artifact.manifest.contents} == {"knowledge.safetensors", "knowledge.txt"}
    drawn = [path.stem for path in (run_dir / "figures").glob("*.png")]
    assert "history" in drawn
    for name in drawn:
        assert run.values(f"tune/{name}/_type") == ["image-file"]
    assert run.values("tune/trials/nrows") == [6]
    assert run.summary["best/MaskAP"] == pytest.approx(found["best"]["MaskAP"])
    assert run.summary["best/sigma_alpha"] == pytest.approx(found["params"]["sigma_alpha"])
    with (run_dir / "metrics.csv").open(newline="") as stream:
        assert len([row for row in csv.DictReader(stream) if row["trial/sigma_alpha"]]) == 6


def test_the_knowledge_gives_the_figures_that_were_found(tuned: tuple[Path, list[str]], tmp_path: Path) -> None:
    run_dir, overrides = tuned
    found = json.loads((run_dir / "tune.json").read_text())
    data = overrides[2].removeprefix("data.root='").removesuffix("'")
    # The validation images as a folder of their own.
    run_task(
        tmp_path / "test", "task=test", overrides[1], f"data.root='{data}/val'", overrides[-1], overrides[-2],
        f"knowledge='{run_dir / 'knowledge.safetensors'}'", "logger=csv", "callbacks.figures=null",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "test" / "metrics.json").read_text())
    for name in SCORES:
        assert metrics["initial"][name] == pytest.approx(found["initial"][name])
        assert metrics["refined"][name] == pytest.approx(found["best"][name])


def test_tuning_resumes_without_a_forward_pass(
    tuned: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, overrides = tuned
    file = overrides[1].removeprefix("ckpt='").removesuffix("'")
    monkeypatch.setattr(type(load_module(file).detector), "forward", lambda *_: pytest.fail("a forward pass was run"))
    with caplog.at_level(logging.INFO):
        run_task(tmp_path / "again", *overrides, "tune.trials=8", "logger=csv")
    assert "has 6 trials of this study" in caplog.text
    assert json.loads((tmp_path / "again" / "tune.json").read_text())["trials"] == 8


def test_an_interrupted_tuning_says_how_to_resume(
    tuned: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run_dir, overrides = tuned
    storage = tmp_path / "a study, i=1 (new).journal"
    shutil.copyfile(run_dir.parent / "study.journal", storage)
    word = override("tune.storage", storage)
    monkeypatch.setattr(Search, "run", interrupted)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        run_task(tmp_path / "again", *overrides, word, "logger=csv")
    assert f"interrupted: the same command with {shlex.quote(word)} resumes it" in caplog.text
    # The trials of before are there, and so is what they have found.
    assert f"knowledge={tmp_path / 'again' / 'knowledge.safetensors'}" in caplog.text
    assert (tmp_path / "again" / "tune.json").is_file()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("refine=none", "task=tune needs the CRF. Use refine=dense_crf"),
        ("tune.objective=BoxAP", "tune.objective=BoxAP is unknown. Use MaskAP, AP50, AP75, IA"),
        ("tune.source=all", "tune.source=all is unknown. Use val, train or test"),
        ("tune.trials=0", "tune.trials=0 is out of range. Give a whole number, 1 or more"),
        ("search.w1.high=0.1", "search.w1="),
        ("search.w1=3", "search.w1=3 is not a range. It needs the numbers low and high"),
        ("knowledge=a", "task=tune looks for parameters; knowledge brings its own. Leave knowledge=FILE out"),
        ("refine.outside=0.1", "a knowledge file cannot hold refine.outside. Leave it at 0 for task=tune"),
    ],
)
def test_wrong_settings_are_one_line(
    override: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_task(tmp_path / "run", "task=tune", "data=synthetic", override)
    assert caught.value.code == 2
    assert line in capsys.readouterr().err


def test_a_storage_that_cannot_be_opened_is_one_line(
    tuned: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, overrides = tuned
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        run_task(tmp_path / "run", *overrides, f"tune.storage='{tmp_path / 'file' / 'study.journal'}'", "logger=csv")
    assert f"tune.storage={tmp_path / 'file' / 'study.journal'} cannot be opened (" in capsys.readouterr().err


def test_a_search_of_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = ("search=sigmas", "search.sigma_alpha=null", "search.sigma_beta=null")
    with pytest.raises(SystemExit):
        run_task(tmp_path / "run", "task=tune", "data=synthetic", *nothing)
    line = "search={'sigma_alpha': None, 'sigma_beta': None} has no range. Give that of at least one parameter"
    assert line in capsys.readouterr().err
