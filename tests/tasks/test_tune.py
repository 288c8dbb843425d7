"""``task=tune`` from the command's overrides to the knowledge file, and the search on a known landscape."""

from __future__ import annotations

import csv
import json
import logging
import math
import multiprocessing
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from lightning.pytorch.loggers import Logger
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.wandb_run import RunLogger, finish_run
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tasks import tune
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.tuning import study
from kemr_lightning.tuning.scoring import SCORES, ScoredImages, Scorer
from kemr_lightning.tuning.study import Range, Search, one_at_a_time, open_storage, read_ranges
from tests.conftest import compose, run_task
from tests.helpers import read_run

RANGES = {"sigma_alpha": Range(1.0, 8.0, log=True), "sigma_beta": Range(3.0, 60.0, log=True)}


class Landscape:
    """Stands for a scorer: the best parameters are sigma_alpha 4 and sigma_beta 20."""

    ends = (1, 2, 3)

    def parts(self, refine: object) -> Iterator[dict[str, float]]:
        params: CRFParams = refine(None, None)  # type: ignore[operator]
        value = 100 - 20 * abs(math.log(params.sigma_alpha / 4)) - 10 * abs(math.log(params.sigma_beta / 20))
        for _ in self.ends:
            yield dict.fromkeys(SCORES, value)


class Echo:
    """Stands for a refiner: gives the parameters back."""

    def __init__(self) -> None:
        self.params = CRFParams()

    def __call__(self, image: object, instances: object, params: CRFParams) -> CRFParams:
        return params


def search(place: str, seed: int = 0, name: str = "s") -> Search:
    return Search(Landscape(), Echo(), RANGES, "MaskAP", open_storage(place), name, seed, 5)  # type: ignore[arg-type]


def test_the_search_finds_the_top_prunes_and_tries_the_configured_first(tmp_path: Path) -> None:
    found = search(str(tmp_path / "study.journal"))
    told: list[int] = []
    found.run(40, told=lambda trial: told.append(trial.number))
    assert len(found.ended()) == 40
    assert told == list(range(40))
    assert found.study.trials[0].params == {"sigma_alpha": 2.0, "sigma_beta": 9.0}
    best = found.best()
    assert best is not None
    assert best.value is not None
    assert best.value > 95
    assert best.user_attrs["crf"]["w1"] == CRFParams().w1
    assert any(trial.state == TrialState.PRUNED for trial in found.ended())
    assert found.importance().keys() == RANGES.keys()
    assert sum(found.importance().values()) == pytest.approx(1)


@pytest.mark.parametrize("place", ["study.journal", "sqlite"])
def test_a_study_goes_on_where_it_stopped(tmp_path: Path, place: str) -> None:
    where = f"sqlite:///{tmp_path / 'study.db'}" if place == "sqlite" else str(tmp_path / place)
    search(where).run(4)
    again = search(where)
    assert len(again.ended()) == 4
    again.run(6)
    assert len(again.ended()) == 6
    again.run(6)
    assert len(again.study.trials) == 6
    numbers = [trial.params["sigma_alpha"] for trial in again.study.trials]
    assert len(set(numbers)) == 6


def test_searchers_share_a_study(tmp_path: Path) -> None:
    place = str(tmp_path / "study.journal")
    search(place)  # queues the configured parameters once
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda seed: search(place, 100 * seed).run(12), range(3)))
    trials = search(place).study.trials
    assert 12 <= len([trial for trial in trials if trial.state.is_finished()]) <= 14
    assert [trial.number for trial in trials] == list(range(len(trials)))


def begin(place: str, seed: int, barrier: Any) -> None:
    """A process of its own that starts with the others."""
    barrier.wait()
    with one_at_a_time(place):
        started = search(place, 100 * seed)
    started.run(12)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_processes_that_start_together_share_a_new_study(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "new folder" / f"study.{kind}"
    place = f"sqlite:///{file}" if kind == "sqlite" else str(file)
    together = multiprocessing.get_context("fork")
    barrier = together.Barrier(4)
    processes = [together.Process(target=begin, args=(place, seed, barrier)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    trials = search(place).study.trials
    assert 12 <= len(trials) <= 15
    assert [trial.number for trial in trials] == list(range(len(trials)))
    # The configured parameters are tried by one of them.
    assert sum(trial.params == {"sigma_alpha": 2.0, "sigma_beta": 9.0} for trial in trials) == 1


def test_a_database_that_others_are_creating_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no lock helps: the first tries find the tables half made."""
    errors: list[Exception] = [OperationalError("create", {}, Exception("already exists")), AssertionError()]
    real = study.RDBStorage

    def open_half_made(*args: object, **kwargs: object) -> object:
        if errors:
            raise errors.pop()
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "RDBStorage", open_half_made)
    monkeypatch.setattr(study.time, "sleep", lambda _: None)
    assert open_storage(f"sqlite:///{tmp_path / 'study.db'}").get_all_studies() == []
    assert errors == []


def test_a_storage_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"tune\.storage=.* cannot be opened .*Give another file"):
        open_storage(str(tmp_path / "file" / "study.journal"))
    for place in (str(tmp_path / "file" / "study.journal"), "nonsense://"):
        with pytest.raises(UserError, match="Give another file"), study.one_at_a_time(place):
            open_storage(place)


def test_a_trial_of_a_dead_process_is_tried_again(tmp_path: Path) -> None:
    place = str(tmp_path / "study.journal")
    first = search(place)
    first.run(1)
    left = first.study.ask()
    values = {"sigma_alpha": left.suggest_float("sigma_alpha", 1, 8, log=True)}
    values["sigma_beta"] = left.suggest_float("sigma_beta", 3, 60, log=True)
    left.set_user_attr("process", f"{socket.gethostname()}:{2**22 + 1}")  # above Linux' highest process number
    again = search(place)
    assert again.study.trials[left.number].state == TrialState.FAIL
    again.run(2)
    assert again.study.trials[-1].params == pytest.approx(values)


@pytest.mark.parametrize(
    "ranges",
    [
        {"sigma": {"low": 1, "high": 2}},
        {"w1": {"low": 1}},
        {"w1": {"low": 2, "high": 1}},
        {"w2": {"low": 0, "high": 1, "log": True}},
        {"sigma_alpha": {"low": -1, "high": 2}},
        {"w1": {"low": "a", "high": 2}},
        {"w1": None},
    ],
)
def test_ranges_that_are_none_are_the_users_error(ranges: dict[str, object]) -> None:
    with pytest.raises(UserError, match="search"):
        read_ranges(ranges, CRFParams())


def test_configured_ranges_are_ranges() -> None:
    for name in ("crf", "sigmas"):
        config = compose("task=tune", f"search={name}")
        assert read_ranges(dict(config.search), CRFParams())


def scene(number: int) -> tuple[Sample, Instances]:
    chance = torch.Generator().manual_seed(number)
    image = torch.full((40, 40), 30, dtype=torch.uint8)
    image[10:20, 8:30] = 200
    noise = torch.rand((16, 28), generator=chance) * 0.4
    prob = torch.zeros(16, 28)
    prob[2:12, 3:25] = 0.6
    prob = (prob + noise).clamp(0, 1)
    box = torch.tensor([[5.0, 7.0, 33.0, 23.0]])
    truth = Instances(
        (40, 40), torch.tensor([[8.0, 10, 30, 20]]), torch.ones(1), torch.ones(1, dtype=torch.int64),
        [Patch(8, 10, torch.ones((10, 22), dtype=torch.bool))],
    )  # fmt: skip
    predicted = Instances((40, 40), box, torch.ones(1) * 0.9, torch.ones(1, dtype=torch.int64), [Patch(5, 7, prob)])
    return Sample(image, f"{number}.png", number, truth), predicted


@pytest.mark.parametrize("memory", [0, 64])
def test_a_scorers_last_part_is_the_metric_of_all_images(memory: int) -> None:
    scenes = [scene(number) for number in range(1, 6)]
    known = {sample.name: predicted for sample, predicted in scenes}
    images = ScoredImages([sample for sample, _ in scenes], lambda sample: known[sample.name], 3, memory)
    scorer = Scorer(images, chunks=3)
    assert scorer.ends == [2, 4, 5]
    refiner = Refiner(CRFParams())
    parts = list(scorer.parts(refiner))
    assert len(parts) == 3
    for figures, run in ((scorer.initial(), None), (scorer.all(refiner), refiner)):
        records = [
            record(p if run is None else run(s.image, p), s.instances, s.image_id)  # type: ignore[arg-type]
            for s, p in scenes
        ]
        assert figures == {name: headline(records)[name] for name in SCORES}


def test_fewer_images_than_chunks() -> None:
    sample, predicted = scene(1)
    assert Scorer(ScoredImages([sample], lambda _: predicted), chunks=4).ends == [1]


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
        "callbacks.refinement.metric.ia_score=0.0",
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


def test_every_trial_is_logged_and_pruned_ones_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    loggers: list[Logger] = [RunLogger(project="test", save_dir=tmp_path)]
    found = search(str(tmp_path / "study.journal"))
    found.run(40, told=lambda trial: tune._log(trial, "MaskAP", loggers))
    finish_run()
    run = read_run(tmp_path)
    assert run.values("trainer/global_step") == list(range(40))
    states = [trial.state for trial in found.study.trials]
    assert run.values("trial/pruned") == [float(state == TrialState.PRUNED) for state in states]
    assert 0 < states.count(TrialState.PRUNED) < 40
    for row in run.history:
        # Figures of a part of the images are not among those of all.
        assert ("trial/MaskAP" in row, "trial/pruned/MaskAP" in row) == (
            not row["trial/pruned"],
            bool(row["trial/pruned"]),
        )


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


def test_tuning_goes_on_without_a_forward_pass(
    tuned: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, overrides = tuned
    file = overrides[1].removeprefix("ckpt='").removesuffix("'")
    monkeypatch.setattr(type(load_module(file).detector), "forward", lambda *_: pytest.fail("a forward pass was run"))
    with caplog.at_level(logging.INFO):
        run_task(tmp_path / "again", *overrides, "tune.trials=8", "logger=csv")
    assert "has 6 trials of this study" in caplog.text
    assert json.loads((tmp_path / "again" / "tune.json").read_text())["trials"] == 8


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("refine=none", "refine=dense_crf"),
        ("tune.objective=BoxAP", "MaskAP"),
        ("tune.source=all", "val, train or test"),
        ("knowledge=a", "knowledge"),
        ("refine.outside=0.1", "refine.outside"),
    ],
)
def test_wrong_settings_are_one_line(
    override: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_task(tmp_path / "run", "task=tune", "data=synthetic", override)
    assert words in capsys.readouterr().err


def test_optuna_is_current() -> None:
    assert int(optuna.__version__.split(".")[0]) >= 5
