"""``python -m kemr_lightning.data.synthetic DIR``: write a folder of synthetic metaphases with annotations."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.formats import DEFAULT, written
from kemr_lightning.data.synthetic.folder import write_synthetic_folder
from kemr_lightning.data.synthetic.settings import CLINICAL_LOOKS, LOOKS, MIXED, SCENES, MetaphaseSettings


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and write the folder.

    Args:
        arguments: Arguments to use instead of the process's own.

    Returns:
        The exit status: 0, or 2 after a wrong option.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kemr_lightning.data.synthetic",
        description="Write synthetic metaphases as images with annotations.",
    )
    parser.add_argument("root", help="folder to write train/, val/ and test/ into")
    parser.add_argument("--train", type=int, default=8, help="number of training images (default 8)")
    parser.add_argument("--val", type=int, default=2, help="number of validation images (default 2)")
    parser.add_argument("--test", type=int, default=2, help="number of test images (default 2)")
    parser.add_argument(
        "--format", choices=written(), default=DEFAULT, help=f"format of the annotations (default {DEFAULT})"
    )
    parser.add_argument(
        "--scene", choices=SCENES, default=SCENES[0], help="a nearly clean slide, or cells among nuclei and dirt"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="default 768 576; in clinical scenes 600 to 3200, drawn for each image",
    )
    parser.add_argument("--count", type=int, nargs="+", help="chromosomes in an image: a number, or lowest and highest")
    parser.add_argument("--look", choices=(*dict.fromkeys((*LOOKS, *CLINICAL_LOOKS)), MIXED), default=MIXED)
    parser.add_argument(
        "--overlap",
        type=float,
        help="fraction laid across or against others (default 0.35; in clinical scenes drawn for each image)",
    )
    parser.add_argument(
        "--width", type=float, nargs="+", help="typical chromosome width in pixels: a number, or lowest and highest"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--classes", action="store_true", help="24 classes, 1 to 22, X and Y, instead of one")
    options = vars(parser.parse_args(arguments))
    options["label_map"] = None if options.pop("classes") else "single"
    if options["size"] is None and options["scene"] == SCENES[0]:
        options["size"] = (768, 576)
    look = {setting.name: options.pop(setting.name) for setting in fields(MetaphaseSettings)}
    try:
        write_synthetic_folder(**options, settings=MetaphaseSettings(**look))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
