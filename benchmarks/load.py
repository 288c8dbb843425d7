"""Resident memory and open files of a training, a test and a prediction over many images.

Images are made by the script: 256x256 pixels with 46 outlines each, so that a run of thousands of them fits a CPU. A
training takes every image once. Both numbers are sampled for the whole process tree, through ``/proc``.

    python benchmarks/load.py --images 2000 --out DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

RUN = Path(__file__).parent.parent / "run.py"
SIDE, INSTANCES = 256, 46


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        canvas = Image.new("L", (SIDE, SIDE), 30)
        draw, shapes = ImageDraw.Draw(canvas), []
        for _ in range(INSTANCES):
            centre, angle = rng.uniform(12, SIDE - 12, 2), rng.uniform(0, np.pi)
            along = 9 * np.array([np.cos(angle), np.sin(angle)])
            across = 3 * np.array([-np.sin(angle), np.cos(angle)])
            points = [
                centre + along + across,
                centre + along - across,
                centre - along - across,
                centre - along + across,
            ]
            draw.polygon([tuple(point) for point in points], fill=200)
            shapes.append({"label": "chr", "points": np.round(points, 2).tolist(), "shape_type": "polygon"})
        stem = f"{number:05}"
        canvas.save(folder / f"{stem}.png")
        document = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.png", "imageData": None}
        (folder / f"{stem}.json").write_text(json.dumps(document | {"imageHeight": SIDE, "imageWidth": SIDE}))


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def sample(root: int) -> tuple[float, int]:
    """MiB of memory, shared pages divided among their users, and open files of a process tree."""
    memory, files = 0.0, 0
    for process in tree(root):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            memory += int(text.partition("\nPss:")[2].split()[0]) / 1024
            files += len(list(Path(f"/proc/{process}/fd").iterdir()))
        except (OSError, IndexError):
            continue
    return memory, files


def watch(name: str, words: list[str], out: Path, seconds: float) -> dict[str, object]:
    """Run a task; the samples of the second and of the last quarter of its time tell whether it grows."""
    log = out / f"{name}.log"
    with log.open("w") as stream:
        process = subprocess.Popen([sys.executable, str(RUN), *words], stdout=stream, stderr=stream, cwd=out)
        samples, started = [], time.monotonic()
        while process.poll() is None:
            samples.append(sample(process.pid))
            time.sleep(seconds)
    taken = time.monotonic() - started
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    memory = [float(np.median([one[0] for one in part])) for part in (early, late)]
    files = [int(np.median([one[1] for one in part])) for part in (early, late)]
    return {"task": name, "status": process.returncode, "seconds": round(taken), "MiB": memory, "files": files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    out = given.out.resolve()
    write_images(out / "data" / "train", given.images)
    write_images(out / "data" / "val", 4)
    write_images(out / "data" / "test", given.images)
    common = [f"data.root='{out}/data'", f"data.num_workers={given.workers}", "logger=csv", "refine=none"]
    common += ["callbacks.figures=null", "paths.store=null"]
    ckpt = f"ckpt='{out}/train/checkpoints/last.ckpt'"
    fit = ["experiment=mask_rcnn_tiny", "trainer.max_steps=-1", "trainer.max_epochs=1", "data.epoch_samples=null"]
    fit += ["trainer.val_check_interval=null", "trainer.limit_test_batches=1", "data.augmentation.crop_size=[128,128]"]
    rows = [watch("train", [*common, *fit, f"hydra.run.dir='{out}/train'"], out, given.seconds)]
    rows.append(watch("test", [*common, "task=test", ckpt, f"hydra.run.dir='{out}/test'"], out, given.seconds))
    predict = ["task=predict", ckpt, f"data.root='{out}/data/test'", f"hydra.run.dir='{out}/predict'", "refine=none"]
    rows.append(watch("predict", predict, out, given.seconds))
    (out / "load.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
