"""The keys of ``data``, with its augmentation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kemr_lightning.assembly.schema.groups import built, group, known, named
from kemr_lightning.assembly.schema.kinds import (
    choice,
    count,
    described,
    factors,
    flag,
    fraction,
    listed,
    number,
    pattern,
    seed,
    size,
    some,
    text,
    texts,
    whole,
)

_paste = built(known("kemr_lightning.data.paste.CopyPaste", {"p": fraction, "most": whole(1, 1000), "near": fraction}))

_augmentation = built(
    known(
        "kemr_lightning.data.augment.Augmentation",
        {
            "crop_size": size("[height,width]", 16) | None,
            "scale": factors,
            "rotate": number(0, 360, words="in degrees"),
            "resample_p": fraction,
            "turns": flag,
            "focus": fraction,
            "brightness": fraction,
            "contrast": factors,
            "gamma": factors,
            "invert_p": fraction,
            "shading": fraction,
            "noise": number(0, 255, words="in grey levels"),
            "blur": number(0, 100, words="in pixels"),
            "blur_p": fraction,
            "min_visible": fraction,
            "min_area": number(0, words="in pixels"),
            "paste": _paste | None,
        },
    )
)

_loading: dict[str, Any] = {
    "augmentation": _augmentation | None,
    "resize": size("[width,height]", 1) | None,
    "scale": choice("auto", None),
    "batch_size": whole(1, 4096),
    "num_workers": whole(0, 256),
    "epoch_samples": some | None,
    "cache_mb": count,
    "seed": seed,
}

_list = described(text | texts | None, "a file of names, one per line, or a list of names")

_label_map = described(
    Annotated[str, Field(strict=True, min_length=1)]
    | dict[str | int | float | bool, str | int | float | bool | None]
    | None,
    "single, null, a mapping old -> new, or a YAML file that holds one",
)

_names = described(list[str | int | float | bool], "a list of labels")

_folder = known(
    ("kemr_lightning.data.datamodule.SegmentationDataModule",),
    {
        **_loading,
        "format": text,
        "root": text | None,
        "label_map": _label_map,
        "group_pattern": pattern,
        "val_fraction": number(above=0, below=1),
        "lists": group({"train": _list, "val": _list, "test": _list}) | None,
        "follow_links": flag,
        "crowds": choice("ignore", "instances"),
        "ignore_labels": _names,
        "groups": choice("join", "separate"),
        "channel": described(whole(1) | text | None, "a channel's name, its number from 1, or null"),
        "max_pixels": some,
    },
)

_count = described(
    whole(0) | listed(whole(0), "[lowest,highest]", 1, 2, ordered=True) | None,
    "a whole number, [lowest,highest] or null",
)

_width = described(
    number(4) | listed(number(4), "", 2, 2, ordered=True) | None,
    "a number of pixels, 4 or more, [lowest,highest] or null",
)

_synthetic = known(
    (
        "kemr_lightning.data.synthetic.SyntheticDataModule",
        "kemr_lightning.data.synthetic.datamodule.SyntheticDataModule",
    ),
    {
        **_loading,
        "train_images": some,
        "val_images": some,
        "test_images": some,
        "size": size("[width,height]", 64) | None,
        "count": _count,
        "scene": choice("plain", "clinical"),
        "look": choice("gband", "fluorescence", "mixed", "qband", "dapi"),
        "overlap": fraction | None,
        "width": _width,
        "label_map": choice("single", None),
    },
)

_source = built(_folder, _synthetic)

_mixture = known(
    "kemr_lightning.data.mixture.MixtureDataModule",
    {
        **_loading,
        "sources": named(_source | None),
        "weights": named(number(0)) | None,
        "validate": texts | None,
    },
)

DATA = built(_folder, _synthetic, _mixture)
