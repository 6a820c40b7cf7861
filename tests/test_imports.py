"""Data flows one way: a room of labkit imports only from rooms above it, and techniques know nothing of one another."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import labkit

HOME = Path(labkit.__file__).parent
LINE = (
    "_check _files _process _module data augment models optim losses article train zoo surfaces _samplers _storage "
    "search compress store export significance measure seeds sweep budget frontier drawing live _verdict topics "
    "explore teach cli"
)
ORDER = LINE.split()
ALLOWED = {room: set(ORDER[: i + 1]) for i, room in enumerate(ORDER)} | {"doctor": {"data"}, "__init__": set(ORDER)}
# of compress/: these may join techniques
RECIPES = {"__init__", "parts", "deep_compression", "qat", "integer", "compose", "fold"}
# of compress/: what techniques have in common
SHARED = ("_weights", "_channels", "_operations", "_table", "_units", "grid")


def sources() -> dict[str, str]:
    """Every file of the package by its path below labkit/."""
    return {f.relative_to(HOME).as_posix(): f.read_text() for f in HOME.rglob("*.py")}


def imported(source: str, path: str) -> set[str]:
    """Dotted names that a file imports from labkit, without "labkit.": "compress.grid.Grid"; "" is the whole."""
    package = ("labkit/" + path).split("/")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {n.removeprefix("labkit").lstrip(".") for n in names if n.split(".")[0] == "labkit"}


def violations(files: dict[str, str]) -> list[str]:
    """One line for each import that goes the wrong way."""
    found = []
    for path, source in files.items():
        room, *inner = path.removesuffix(".py").split("/")
        if room not in ALLOWED:
            found.append(f"{path} is a room that ORDER does not list")
            continue
        for name in sorted(imported(source, path)):
            head, *rest = name.split(".")
            if head not in ALLOWED[room]:
                found.append(f"{path} imports {name or 'labkit'}")
            technique = room == head == "compress" and inner[0] not in RECIPES
            if technique and rest[0] not in (*SHARED, inner[0]):
                found.append(f"{path} imports {name}")
            if room == head == "topics" and inner[0] not in ("__init__", "__main__", *rest[:1]):
                found.append(f"{path} imports {name}")
    return found


def test_every_import_goes_one_way():
    assert violations(sources()) == []


@pytest.mark.parametrize(
    ("path", "line", "wrong"),
    [
        ("train.py", "from labkit.compress import magnitude", "compress.magnitude"),
        ("train.py", "from labkit import zoo", "zoo"),
        ("train.py", "def f():\n    import labkit.drawing", "drawing"),
        ("train.py", "import labkit as lk", "labkit"),
        ("train.py", "from .measure import measure", "measure.measure"),
        ("_check.py", "from labkit.data import Split", "data.Split"),
        ("doctor.py", "from labkit.train import fit", "train.fit"),
        ("store/file.py", "from ..sweep import run", "sweep.run"),
        ("compress/quantize.py", "from labkit.compress.magnitude import prune", "compress.magnitude.prune"),
        ("compress/quantize.py", "from labkit.compress import magnitude", "compress.magnitude"),
        ("compress/quantize.py", "from . import magnitude", "compress.magnitude"),
        ("topics/optimizers/panel.py", "from labkit.topics.quantization import plots", "topics.quantization.plots"),
    ],
)
def test_a_planted_violation_is_found(path, line, wrong):
    assert violations({path: line}) == [f"{path} imports {wrong}"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("train.py", "from labkit import _check, optim"),
        ("train.py", "import torch, labkitten"),
        ("compress/quantize.py", "from labkit.compress import _weights"),
        ("compress/quantize.py", "from labkit.compress.grid import Grid"),
        ("compress/parts.py", "from labkit.compress.quantize import Dequantize"),
        ("compress/parts.py", "from .quantize import Dequantize"),
        ("topics/magnitude_pruning/panel.py", "from labkit.live.picture import Live"),
    ],
)
def test_what_goes_down_is_left_alone(path, line):
    assert violations({path: line}) == []


def test_a_file_outside_the_order_is_found():
    assert violations({"helpers.py": ""}) == ["helpers.py is a room that ORDER does not list"]


def test_every_recipe_is_there():
    assert not [name for name in RECIPES if not (HOME / "compress" / f"{name}.py").exists()]


def names_in_notebooks() -> list[str]:
    """Every `lk.name` and `lk.name.inner` that a notebook's code uses."""
    found = set()
    for path in (HOME.parent / "notebooks").glob("*.ipynb"):
        cells = [c["source"] for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        found |= set(re.findall(r"\blk((?:\.[a-zA-Z]\w*)+)", "\n".join("".join(cell) for cell in cells)))
    return sorted(name.removeprefix(".") for name in found)


def test_dir_names_what_notebooks_use_and_no_other_import_is_needed():
    names = names_in_notebooks()
    assert len(names) > 50
    assert {name.split(".")[0] for name in names} <= set(dir(labkit))
    ask = "import operator, sys, labkit; [operator.attrgetter(name)(labkit) for name in sys.argv[1:]]"
    ran = subprocess.run([sys.executable, "-c", ask, *names], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


def test_dir_promises_only_what_is_there():
    ask = "import labkit; [getattr(labkit, name) for name in dir(labkit)]"
    ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


def test_importing_labkit_brings_no_widgets_no_pyplot_and_no_scikit_learn():
    heavy = ["ipywidgets", "anywidget", "matplotlib.pyplot", "sklearn"]
    code = f"import sys, labkit; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
