"""The keys that the tasks, the metric and the refinement read, and the whole configuration."""

from __future__ import annotations

from typing import Any

from kemr_lightning.assembly.schema.data_keys import DATA
from kemr_lightning.assembly.schema.groups import built, group, known
from kemr_lightning.assembly.schema.kinds import (
    anything,
    choice,
    flag,
    fraction,
    listed,
    number,
    seed,
    share,
    text,
    whole,
)
from kemr_lightning.assembly.schema.model_keys import MODEL
from kemr_lightning.assembly.schema.training_keys import CALLBACKS, LOGGER, OPTIMIZER, SCHEDULER, TRAINER

METRIC = built(
    known(
        "kemr_lightning.metrics.segmentation.InstanceSegmentationMetric",
        {"ia_score": fraction, "ia_iou": share, "threshold": share, "max_detections": whole(1)},
    )
)


REFINE = built(
    known(
        ("kemr_lightning.refinement.Refiner.from_values", "kemr_lightning.refinement.refiner.Refiner.from_values"),
        {
            # CRFParams knows their ranges, and which values are useful.
            **{key: number() for key in ("sigma_alpha", "sigma_beta", "sigma_gamma", "w1", "w2", "temperature")},
            "iterations": whole(),
            "engine": text,
            "margin": whole(),
            "tolerance": number(),
            "outside": number(),
        },
    )
)

_paths = listed(text, "a list of directories, [DIR1,DIR2]") | None

ROOT_KEYS: dict[str, Any] = {
    "name": text,
    "seed": seed,
    "ckpt": text | None,
    "init": text | None,
    "resume": choice("auto", None),
    "resume_anyway": flag,
    "views": whole(1, 8),
    "knowledge": text | None,
    "task": group({"name": text, "function": text}),
    "paths": group({"runs": text, "run_dir": text, "store": text | None}),
    "model": MODEL,
    "optimizer": OPTIMIZER,
    "scheduler": SCHEDULER,
    "data": DATA,
    "metric": METRIC,
    "refine": REFINE | None,
    "callbacks": CALLBACKS | None,
    "logger": LOGGER | None,
    "trainer": TRAINER,
    "experiments": listed(text, "a list of experiments, [kemr_tiny,mask_rcnn_tiny]") | None,
    "runs": _paths,
    # The settings of a task check themselves, when the task reads them: see assembly/settings.py.
    **dict.fromkeys(("predict", "learn", "tune", "compare", "convert", "doctor", "outline", "search"), anything),
}
"""The keys of ``conf/config.yaml`` and of the tasks."""
