"""The plan of the house: imports go down, rooms stay small, each thing has one name and one place."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from kemr_lightning.core import run_directory

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kemr_lightning"
NAME = PACKAGE.name

FLOORS = (
    ("core",),
    ("data", "models", "refinement", "metrics"),
    ("training",),
    ("output",),
    ("prediction", "outlining", "learning", "tuning", "doctor", "sweep", "comparison"),
    ("callbacks",),
    ("assembly",),
    ("tasks",),
)
"""From the ground up. A room imports rooms of lower floors and itself, never a neighbour on its own floor."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

MOST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 12

LONG = {
    "data.labelme.write.write_labelme": "a public contract: its docstring explains eleven arguments",
    "data.datamodule.SegmentationDataModule.__init__": "its docstring explains a parameter for each key of conf/data",
    "data.synthetic.datamodule.SyntheticDataModule.__init__": "likewise",
}
"""Functions that may be longer, each with the reason."""

BUILDERS = {
    "data.datamodule.SegmentationDataModule.__init__": "conf/data/labelme.yaml",
    "data.synthetic.datamodule.SyntheticDataModule.__init__": "conf/data/synthetic.yaml",
}
"""Functions that may have more parameters, each with the configuration that calls it: one key for each parameter."""

UNTESTED = {"data/record": "a dataclass without behaviour; the tests of every reader use it"}
"""Modules without a test file of their name, each with the reason."""


@lru_cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(root: Path = PACKAGE) -> list[Path]:
    return sorted(root.rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder in the package that a file lies in; empty for the package's own ``__init__``."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imported(tree: ast.Module, folder: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of the package that a file imports, wherever in it, in functions and for types alone included.

    Args:
        tree: The file.
        folder: The folders of the package that it lies in.
    """
    package = [NAME, *folder]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == NAME)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.split(".")[0] == NAME:
                yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> Iterator[str]:
    return imported(tree_of(path), path.relative_to(PACKAGE).parts[:-1])


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a file under its dotted name in the package."""
    module = path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")

    def within(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}.{child.name}", child
                yield from within(child, f"{prefix}.{child.name}")
            elif isinstance(child, ast.ClassDef):
                yield from within(child, f"{prefix}.{child.name}")
            else:
                yield from within(child, prefix)

    return within(tree_of(path), module)


def texts(path: Path) -> Iterator[str]:
    """Every string of a file that is no docstring; the fixed parts of formatted ones."""
    tree = tree_of(path)
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_every_folder_is_a_room_and_every_module_lies_in_one() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in modules() if path.parent != PACKAGE} == set(FLOOR_OF)
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_imports_go_down() -> None:
    upwards = []
    for path in modules():
        room = room_of(path)
        for name in imports_of(path):
            target = name.split(".")[1] if "." in name else ""
            if target == room or room == "":
                continue
            if target not in FLOOR_OF and room == "tasks":
                continue  # the version is the package's own
            # The package itself, which is not a room, lies above all of them.
            if FLOOR_OF.get(target, len(FLOORS)) >= FLOOR_OF[room]:
                upwards.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not upwards, "\n".join(upwards)


def test_the_ground_floor_imports_nothing_of_the_package() -> None:
    for path in modules(PACKAGE / "core"):
        assert all(name.split(".")[1] == "core" for name in imports_of(path)), path


def test_the_check_of_imports_reads_functions_and_relative_imports() -> None:
    tree = ast.parse("def f():\n    from ...tasks import start\n    import kemr_lightning.output.drawing\nimport torch")
    assert sorted(imported(tree, ("data", "synthetic"))) == [
        "kemr_lightning.output.drawing",
        "kemr_lightning.tasks.start",
    ]


def test_files_are_short() -> None:
    long = {}
    for path in [*modules(), *sorted((ROOT / "tests").rglob("*.py"))]:
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > MOST_LINES:
            long[path.relative_to(ROOT).as_posix()] = count
    assert not long


def test_functions_are_short_and_take_few_parameters() -> None:
    long, wide = {}, {}
    for path in modules():
        for name, node in functions(path):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            arguments = node.args
            count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
            count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
            if lines > MOST_FUNCTION_LINES:
                long[name] = lines
            if count > MOST_PARAMETERS:
                wide[name] = count
    assert set(long) == set(LONG), long
    assert set(wide) == set(BUILDERS), wide


def test_tests_mirror_the_package() -> None:
    missing = set()
    for path in modules():
        inside = path.relative_to(PACKAGE)
        if path.name in ("__init__.py", "__main__.py"):
            continue
        if not (ROOT / "tests" / inside.parent / f"test_{path.stem}.py").is_file():
            missing.add(inside.with_suffix("").as_posix())
    assert missing == set(UNTESTED)


def test_shared_test_code_has_one_file_name() -> None:
    names = {path.name for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith("test_")}
    assert names <= {"__init__.py", "conftest.py", "helpers.py", "drive.py"}


SAME_NAME = {
    "build": "checkpoints name `models.build`; `assembly.build` builds everything from the configuration",
    "refiner": "`assembly.refiner` chooses and builds what `refinement.refiner` defines",
    "settings": "each room has the settings of its own task",
}
"""Module names that several rooms have, each with the reason."""


def test_modules_of_different_rooms_have_different_names() -> None:
    rooms = defaultdict(set)
    for path in modules():
        if not path.name.startswith("__"):
            rooms[path.stem].add(room_of(path))
    # A task is named after the room that does its work.
    shared = {name for name, places in rooms.items() if len(places - {"tasks"}) > 1}
    assert shared == set(SAME_NAME)


def test_public_functions_of_different_rooms_have_different_names() -> None:
    places = defaultdict(set)
    for path in modules():
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(room_of(path))
    shared = {name: rooms for name, rooms in places.items() if len(rooms - {"tasks"}) > 1}
    assert not shared


def test_file_names_of_a_run_are_spelled_in_one_place() -> None:
    names = {value for value in vars(run_directory).values() if isinstance(value, str) and "." in Path(value).name}
    names -= {run_directory.__name__, run_directory.__file__, run_directory.__doc__ or ""}
    elsewhere = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in modules()
        if path.name != "run_directory.py"
        for text in texts(path)
        if text in names
    }
    assert not elsewhere


FOREIGN_FOLDERS = {"kemr_lightning/models/weights.py: checkpoints": "a folder of torch hub"}
"""Names joined to a path that only look like those of a run, each with the reason."""


def joined(tree: ast.Module) -> Iterator[str]:
    """Strings on the right of ``/`` and in the patterns of ``glob`` and ``rglob``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in GLOBS:
            parts = node.args
        else:
            continue
        yield from (part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


GLOBS = ("glob", "rglob")


def test_folders_of_a_run_are_spelled_in_one_place() -> None:
    names = {value for name, value in vars(run_directory).items() if name.isupper() and isinstance(value, str)}
    elsewhere = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in modules()
        if path.name != "run_directory.py"
        for text in joined(tree_of(path))
        if names & {text, *text.split("/")}
    }
    assert elsewhere == set(FOREIGN_FOLDERS)


def test_the_configuration_names_files_of_a_run_as_the_package_does() -> None:
    def conf(name: str) -> Any:
        return OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / name))

    checkpoint = conf("callbacks/default.yaml")["checkpoint"]
    assert checkpoint["dirpath"] == f"${{paths.run_dir}}/{run_directory.CHECKPOINTS}"
    assert f"{checkpoint['filename']}.ckpt" == run_directory.BEST_NAME
    assert conf("task/tune.yaml")["tune"]["storage"] == f"${{paths.run_dir}}/{run_directory.STUDY}"
    assert f"/{run_directory.SWEEPS}/" in conf("config.yaml")["hydra"]["sweep"]["dir"]
    names = {value for value in vars(run_directory).values() if isinstance(value, str)}
    for path in (ROOT / "conf").rglob("*.yaml"):
        for name in re.findall(r"\$\{paths\.run_dir\}/([\w.]+)", path.read_text(encoding="utf-8")):
            assert name in names, f"{path}: {name}"


KEYS = re.compile(
    r"\b(data|model|predict|tune|learn|refine|trainer|optimizer|scheduler|callbacks|doctor|convert|compare|logger|metric)"
    r"\.[a-z_]+=|\b(task|ckpt|init|knowledge|views|experiment|seed)="
)

SPEAKS_COMMAND_LINE = {
    "comparison/experiments": "it sorts the overrides of a command line",
    "comparison/fairness": "it compares the saved configurations of runs",
    "comparison/models": "it reads the saved configurations of runs",
    "data/paste": "it names the group that its arguments come from",
    "sweep/conclusion": "it repeats a sweep's command",
    "sweep/heat_map": "a heat map is drawn over the keys that a sweep varies",
    "sweep/hydra_callback": "Hydra calls it with its own configuration",
    "tuning/tune_results": "knowledge files say which task has found them",
}
"""Modules below the assembly that may, each with the reason."""


def dotted_keys(node: dict[Any, Any], prefix: str) -> Iterator[str]:
    for key, value in node.items():
        if key != "defaults" and not str(key).startswith("_"):
            yield f"{prefix}.{key}"
            if isinstance(value, dict):
                yield from dotted_keys(value, f"{prefix}.{key}")


@lru_cache
def configured_keys() -> re.Pattern[str]:
    """Matches every dotted key that a file of ``conf/`` sets, whether or not a value follows."""
    keys: set[str] = set()
    for path in (ROOT / "conf").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        group = path.relative_to(ROOT / "conf").parts[0]
        if path.parent != ROOT / "conf" and "@package _global_" not in text:
            content = {group: content}
        keys |= {name for key, value in content.items() if isinstance(value, dict) for name in dotted_keys(value, key)}
    return re.compile(rf"(?<![\w./])({'|'.join(map(re.escape, sorted(keys)))})(?![\w.])")


def test_only_assembly_and_tasks_speak_command_line() -> None:
    speaking = defaultdict(list)
    for path in modules():
        if room_of(path) not in ("", "assembly", "tasks"):
            for text in texts(path):
                if KEYS.search(text) or configured_keys().search(text):
                    speaking[path.relative_to(PACKAGE).with_suffix("").as_posix()].append(text)
    assert set(speaking) == set(SPEAKS_COMMAND_LINE), dict(speaking)


@pytest.mark.parametrize("text", ["Give data.root=DIR", "see task=learn", "ckpt=FILE"])
def test_the_check_of_words_knows_a_key(text: str) -> None:
    assert KEYS.search(text)


@pytest.mark.parametrize("text", ["is in none of data.lists", "(not in data.label_map)", "see hydra.run.dir,"])
def test_the_check_of_words_knows_a_key_without_a_value(text: str) -> None:
    assert configured_keys().search(text)
    assert not configured_keys().search(text.replace("data.", "kemr_lightning.data.").replace("hydra.", "x.hydra."))


def test_the_table_of_the_architecture_is_the_tree() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = defaultdict(set)
    for room, cells in re.findall(r"^\| `(\w+)/` \|.*?\| (.*) \|$", page, flags=re.MULTILINE):
        listed[room] |= set(re.findall(r"`([\w/]+)`", cells))
    there = defaultdict(set)
    for path in modules():
        if room_of(path) and not path.name.startswith("__"):
            inside = path.relative_to(PACKAGE / room_of(path)).with_suffix("")
            there[room_of(path)].add(inside.as_posix())
    for room in FLOOR_OF:
        assert listed[room] == there[room], room
    assert set(listed) == set(FLOOR_OF)


def test_a_page_names_no_file_that_is_not_there() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        # A comment above a block of YAML names the file that a reader is to write.
        text = re.sub(r"^# conf/.*$", "", page.read_text("utf-8"), flags=re.MULTILINE)
        for name in re.findall(r"(?<![\w/.-])((?:kemr_lightning|conf|tests|benchmarks)/[\w/.]*\w)", text):
            placeholder = "NAME" in name or "toy" in name
            assert placeholder or (ROOT / name).exists(), f"{page.name}: {name}"
