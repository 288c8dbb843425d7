"""The names of all files and folders in a run's directory, and what each contains."""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.yaml"
HYDRA, RUN_LOG = ".hydra", "run.log"

# A training.
CHECKPOINTS = "checkpoints"
BEST_NAME, LAST_NAME = "best.ckpt", "last.ckpt"
BEST, LAST = f"{CHECKPOINTS}/{BEST_NAME}", f"{CHECKPOINTS}/{LAST_NAME}"
TRAINING_TABLE = "metrics.csv"
TIMING = "timing.json"
NON_FINITE = "non_finite"
WANDB, OFFLINE_RUNS = "wandb", "offline-run-*"

# A test.
METRICS, EXTENDED, PER_CLASS = "metrics.json", "metrics_extended.json", "metrics_per_class.csv"
PREDICTIONS, PREDICTIONS_INITIAL = "predictions.json", "predictions_initial.json"
GROUND_TRUTH = "ground_truth.json"
PER_IMAGE, PRECISION_RECALL_TABLE = "per_image.csv", "precision_recall.csv"

# Knowledge.
KNOWLEDGE, KNOWLEDGE_TEXT = "knowledge.safetensors", "knowledge.txt"
LEARN, LEARN_CURVES = "learn.json", "learn.csv"
TUNE, TRIALS, STUDY = "tune.json", "trials.csv", "study.journal"

# Pictures.
FIGURES = "figures"
PRECISION_RECALL, AP_OVER_IOU, TRAINING = "precision_recall.png", "ap_over_iou.png", "training.png"
LEARNING, STATES = "learning.png", "states.png"
HISTORY, IMPORTANCE = "history.png", "importance.png"

# A prediction.
LABELME, CROPS, STATE = "labelme", "crops", "state"
CROP_INDEX = "index.csv"
IMAGES, SUMMARY, REPORT = "images.json", "summary.csv", "report.html"

# A comparison.
COMPARED_RUNS = "runs"
COMPARISON_TEXT, COMPARISON_TABLE, COMPARISON = "comparison.md", "comparison.csv", "comparison.json"
INSTANCES = "instances.csv"

# A look at a data set.
DOCTOR, DOCTOR_PAGE = "doctor.json", "doctor.html"

# Outlines for boxes.
OUTLINED = "outlined"

# A sweep, and each of its jobs.
SWEEPS = "sweeps"
SWEEP_TABLE, SWEEP_BEST = "sweep.csv", "best.txt"
SWEEP_CONFIG = "multirun.yaml"
JOB = "job.json"
JOBS_LOCK, LAUNCH_LOCK = ".jobs", ".launched"

CONTENTS = {
    METRICS: "the figures above, at full precision",
    EXTENDED: "AP at each IoU, per class, precision-recall curves, counts, kinds of errors",
    PER_CLASS: "the figures of each class",
    PREDICTIONS: "final instances, COCO results",
    PREDICTIONS_INITIAL: "instances before refinement",
    GROUND_TRUTH: "what they were scored against, COCO",
    PER_IMAGE: "what was found, missed and wrong in each image",
    PRECISION_RECALL_TABLE: "precision over recall",
    FIGURES: "pictures of the masks, curves",
    BEST: "the model, chosen on validation",
    LAST: "the end of the training, to resume from",
    TRAINING_TABLE: "losses and validation figures over steps",
    NON_FINITE: "steps whose loss was not finite, to replay",
    KNOWLEDGE: "what refined the masks, for use by other runs",
    WANDB: "the W&B run",
    LABELME: "annotations to open and correct in Labelme",
    IMAGES: "ids, names and sizes of the images",
    SUMMARY: "a row per image",
    REPORT: "everything at a glance, in a browser",
    CROPS: "each chromosome cut out upright, with an index",
    TIMING: "how long training and prediction took",
    COMPARISON_TEXT: "the tables and their footnotes",
    COMPARISON_TABLE: "a row per system, differences with their intervals",
    COMPARISON: "the same, at length",
    INSTANCES: "a row per annotation: its IoU in every system",
    COMPARED_RUNS: "the trainings",
    CONFIG: "the resolved configuration",
}
"""What each file contains, as logged at the end of a run and in that order."""


def is_run_directory(names: set[str]) -> bool:
    """Whether a folder is the directory of a run.

    Args:
        names: The names of the files and folders in it.
    """
    results = {RUN_LOG, TRAINING_TABLE, METRICS, PREDICTIONS, IMAGES, CHECKPOINTS}
    return HYDRA in names or (CONFIG in names and bool(results & names))


def heat_map_name(figure: str) -> str:
    """The file of a sweep's heat map of a figure."""
    return f"heatmap_{figure}.png"


def case_picture_name(second: str, first: str, about: str) -> str:
    """The file of a comparison's picture of the images in which two systems differ most."""
    return f"{second}_vs_{first}_{about}.png"


def run_of_checkpoint(checkpoint: Path) -> Path:
    """The directory of the training that wrote a checkpoint."""
    return checkpoint.parent.parent
