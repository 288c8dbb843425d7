"""A digest of the code that turns an image into detections: a change in it may change what a model predicts.

The files are derived from the model itself. The search starts from the classes of all its parts, their base classes,
and the functions and classes that its description builds it with (``_target_``). It follows the imports in their files,
also those inside functions, within the packages that these classes and functions belong to.

PyTorch, torchvision and Lightning are not searched. The versions of PyTorch and torchvision stand for their code:
operators and torchvision's region proposals may differ between versions, if only in the last bits. Lightning computes
nothing here.

Not in the digest: other packages that these files import (NumPy, SciPy), libraries below PyTorch (cuDNN, oneDNN), code
that is not Python source, imports by a computed name, and data files.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
import torchvision

from kemr_lightning.core.digests import data_digest, settings_digest
from kemr_lightning.training.module import SegmentationModule

LIBRARIES = ("torch", "torchvision", "lightning", "lightning_utilities")


def code_digest(module: SegmentationModule) -> str:
    """Digest of the versions and source files that a module's predictions depend on.

    Args:
        module: The module with its detector.
    """
    contents = {name: data_digest(path.read_bytes()) for name, path in source_files(module).items()}
    return settings_digest(torch.__version__, torchvision.__version__, contents)


def source_files(module: SegmentationModule) -> dict[str, Path]:
    """The source files that a module's predictions depend on.

    Args:
        module: The module with its detector.

    Returns:
        Files by the name of their Python module.
    """
    starts = {name for name in _modules_of(module) if not _is_library(name)}
    packages = {_top(name) for name in starts}
    found: dict[str, Path] = {}
    waiting = sorted(starts)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += [each for each in _imports(name, path) if _top(each) in packages]
    return found


def _modules_of(module: SegmentationModule) -> Iterator[str]:
    """The Python modules that define a model's parts, and those that its description builds it with."""
    for kind in {type(part) for part in module.modules()}:
        yield from (base.__module__ for base in kind.__mro__)
    for target in _targets(module.config):
        parts = target.split(".")
        prefixes = [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]
        # What built the model has been imported, so there is no need to import anything.
        yield from [name for name in prefixes if name in sys.modules][:1]


def _targets(config: object) -> Iterator[str]:
    """Every ``_target_`` in a description."""
    if isinstance(config, Mapping):
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
        for value in config.values():
            yield from _targets(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _targets(value)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_library(name: str) -> bool:
    return _top(name) in LIBRARIES or _top(name) in sys.stdlib_module_names


def _file_of(name: str) -> Path | None:
    """The source file of a Python module, found in the folder of its top package without importing anything."""
    top, _, rest = name.partition(".")
    package = sys.modules.get(top)
    if package is None:
        return None
    if not rest and package.__file__ is not None:
        return Path(package.__file__)
    for folder in map(Path, getattr(package, "__path__", ())):
        place = folder.joinpath(*rest.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _imports(name: str, path: Path) -> Iterable[str]:
    """The names of the Python modules that a source file imports.

    Args:
        name: The name of the file's own module, which relative imports start from.
        path: The file.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            # What is imported is either a module of a package, or a name defined in the module or package itself.
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if _file_of(inner) is not None else base
