"""What a further CRF setting costs, in CPU time, beside a full ``task=test``.

    python benchmarks/sweep.py [--models cascade_mask_rcnn_tiny cascade_mask_rcnn_r101] [--images 4] [--ckpt FILE]

For each model, on synthetic images: a full ``task=test`` (as a job, so that starting Python does not count), then a
sweep, which draws no pictures: its first job makes the predictions, its second one is a further setting (W&B run, files
and all). Then a few trials of ``task=tune``. Without ``--ckpt`` models have random weights and a score threshold of 0,
so that there are instances to refine. Ends with an error where a further setting costs more than is allowed of a full
test.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import hydra
import torch

from kemr_lightning.assembly.build import build_module

ROOT = Path(__file__).parent.parent
LOOK = "fluorescence"
ALLOWED = {"cascade_mask_rcnn_tiny": 1 / 4, "cascade_mask_rcnn_r101": 1 / 20}


def random_checkpoint(model: str, path: Path) -> Path:
    """A checkpoint of a model with random weights."""
    torch.manual_seed(0)
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        weights = ["model.weights=none", "++model.heads.score_threshold=0.0"]
        config = hydra.compose("config", [f"model={model}", "data=synthetic", *weights])
    module = build_module(config, ["chromosome"]).eval()
    # Normalise by the statistics of an image, or a hundred random layers end in numbers that no box comes from.
    norms = [layer.train() for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        module.detector([torch.rand(1, 256, 320)])
    content: dict[str, object] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def run(folder: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    command = [sys.executable, str(ROOT / "run.py"), *words, f"paths.runs='{folder}'"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def column(path: Path, name: str) -> list[float]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [float(row[name]) for row in csv.DictReader(stream)]


def measure(model: str, images: int, size: str, ckpt: Path | None, folder: Path) -> list[float]:
    """CPU seconds of a full test, of the first and a further job of a sweep and of a trial of ``task=tune``."""
    file = ckpt or random_checkpoint(model, folder / "random.ckpt")
    common = [
        f"ckpt='{file}'",
        "data=synthetic",
        f"data.size={size}",
        f"data.test_images={images}",
        "data.val_images=1",
        "data.train_images=1",
        f"data.look={LOOK}",
    ]
    whole, sweep, tuned = folder / "whole", folder / "sweep", folder / "tuned"
    run(folder, "-m", "task=test", *common, f"hydra.sweep.dir='{whole}'")
    (full,) = column(whole / "sweep.csv", "cpu_seconds")
    run(folder, "-m", "experiment=sigma_sweep", *common, "refine.sigma_alpha=2,2.5", f"hydra.sweep.dir='{sweep}'")
    jobs = column(sweep / "sweep.csv", "cpu_seconds")
    words = ["tune.source=test", "tune.trials=3", "tune.chunks=1", "search=sigmas", f"hydra.run.dir='{tuned}'"]
    run(folder, "task=tune", *common, *words)
    trials = column(tuned / "trials.csv", "cpu_seconds")
    return [full, jobs[0], jobs[-1], min(trials)]


def too_dear(model: str, full: float, further: Mapping[str, float]) -> list[str]:
    """What costs more than is allowed.

    Args:
        model: One of `ALLOWED`; nothing is asked of others.
        full: Seconds of a full test.
        further: Ways of trying another setting -> seconds.
    """
    allowed = ALLOWED.get(model)
    return [
        f"{model}: a {name} costs {seconds / full:.3f} of a full test, allowed is {allowed:.3f}"
        for name, seconds in further.items()
        if allowed is not None and seconds > allowed * full
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(ALLOWED))
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--size", default="[1280,1024]")
    parser.add_argument("--ckpt", type=Path, help="for a single model")
    given = parser.parse_args()
    missed = []
    print("CPU seconds, and parts of the full test; what is allowed of it")
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            full, first, job, trial = measure(model, given.images, given.size, given.ckpt, Path(folder))
        allowed = ALLOWED.get(model)
        missed += too_dear(model, full, {"further job": job, "trial": trial})
        print(
            f"{model}: full test {full:.2f}, first job {first:.2f}, further job {job:.2f} (1/{full / job:.1f}), "
            f"trial {trial:.2f} (1/{full / trial:.1f}){'' if allowed is None else f'; allowed 1/{1 / allowed:.0f}'}",
            flush=True,
        )
    for line in missed:
        sys.stderr.write(f"error: {line}\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
