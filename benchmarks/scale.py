"""What a training or a sweep will cost on 1, 8 and 64 GPUs, computed from what a short run has measured.

    python benchmarks/scale.py RUN [--images 720] [--epochs 100] [--batch 2]     a training's timing.json
    python benchmarks/scale.py --sweep SWEEP [--settings 1000] [--jobs 64]       a sweep's sweep.csv

RUN is the directory of a training of at least 50 steps on one of the devices in question (``trainer.max_steps=50``),
with the batch that each device will have. Computed, not measured: that steps on several devices take as long as on one
plus the time to add up gradients, ``2 (n - 1) / n`` times their bytes through one device's link (ring all-reduce, and
none of it hidden behind the backward pass, so the most it can be).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from pathlib import Path


def training_hours(
    seconds_per_step: float, images: int, epochs: int, batch: int, devices: int, gradient_bytes: float, link: float
) -> tuple[int, float, float]:
    """Steps, hours and part of a step spent on gradients.

    Args:
        seconds_per_step: Of one device with its own batch.
        images: Training images.
        epochs: Times that each is seen.
        batch: Images of a step on each device.
        devices: Number of devices.
        gradient_bytes: Four times the number of trained weights.
        link: Bytes a second through each device's link.
    """
    steps = epochs * (images // (batch * devices))
    exchange = 2 * (devices - 1) / devices * gradient_bytes / link
    step = seconds_per_step + exchange
    return steps, steps * step / 3600, exchange / step


def sweep_hours(first: float, further: float, start: float, settings: int, jobs: int) -> tuple[float, float]:
    """Hours of one process that does all settings, and of as many Slurm jobs at once, each of one setting.

    Args:
        first: Seconds of the job that makes the predictions.
        further: Seconds of every other job.
        start: Seconds until Python and its libraries run.
        settings: Number of settings.
        jobs: Slurm jobs at once.
    """
    alone = start + first + (settings - 1) * further
    together = start + first + math.ceil((settings - 1) / jobs) * (start + further)
    return alone / 3600, together / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="run directory of a training")
    parser.add_argument("--images", type=int, default=720)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=2, help="of one device")
    parser.add_argument("--weights", type=float, default=96.0e6, help="trained weights; kemr_r101 has 96.0 million")
    parser.add_argument("--node", type=float, default=100.0, help="GB/s between devices of a node")
    parser.add_argument("--network", type=float, default=25.0, help="GB/s between nodes")
    parser.add_argument("--sweep", type=Path, help="directory of a sweep of some jobs in one process")
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=64, help="Slurm jobs at once")
    parser.add_argument("--start", type=float, default=12.0, help="seconds until Python and its libraries run")
    given = parser.parse_args()
    if given.run is not None:
        training = json.loads((given.run / "timing.json").read_text())["training"]
        step = training["seconds"] / training["steps"]
        print(f"measured: {step:.3f} s a step of {given.batch} images, over {training['steps']} steps")
        for devices in (1, 8, 64):
            link = 1e9 * (given.node if devices <= 8 else given.network)
            steps, hours, part = training_hours(
                step, given.images, given.epochs, given.batch, devices, 4 * given.weights, link
            )
            print(f"computed: {devices:2} devices: {steps:6} steps, {hours:8.2f} h, {100 * part:4.1f} % on gradients")
    if given.sweep is not None:
        with (given.sweep / "sweep.csv").open(newline="", encoding="utf-8") as stream:
            seconds = [float(row["cpu_seconds"]) for row in csv.DictReader(stream) if row["status"] == "done"]
        first, further = seconds[0], statistics.median(seconds[1:])
        print(f"measured: first job {first:.2f} s, a further one {further:.2f} s of CPU time")
        alone, together = sweep_hours(first, further, given.start, given.settings, given.jobs)
        print(f"computed: {given.settings} settings: {alone:.2f} h in one process, {together:.2f} h as Slurm jobs")


if __name__ == "__main__":
    main()
