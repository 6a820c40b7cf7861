"""A wheel holds the code: what works on a network of one's own works, what needs data says where they are."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NO_DATA = (
    "this labkit was installed without its data; clone the repository and install that, or set LABKIT_DATA to the "
    "data/ folder of a clone"
)
pytestmark = pytest.mark.slow

OWN_NETWORK = """
import labkit as lk, torch, pathlib
from torch import nn

assert pathlib.Path(lk.__file__).parent == pathlib.Path({site!r}) / "labkit", lk.__file__
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
small = lk.quantize(lk.prune(model, 0.5), 4)
again = lk.load(lk.save(small, "small.lk"), into=model)
x = torch.rand(20, 8)
assert again(x).equal(small(x))
lk.measure(again, lk.Split(x, torch.arange(20) % 3))
print("fine")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is in the working tree, built without a network."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("labkit", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)  # building leaves folders behind, which shall not lie in the checkout
    build = [sys.executable, "-c", f"from setuptools.build_meta import build_wheel; build_wheel({str(built)!r})"]
    subprocess.run(build, cwd=source, capture_output=True, check=True)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    subprocess.run(pip, check=True)
    return folder


@pytest.fixture
def run(site: Path, tmp_path: Path):
    """run(*arguments): Python with the wheel's labkit and our packages, without the checkout, in an empty folder."""
    away = {k: v for k, v in os.environ.items() if k not in ("LABKIT_DATA", "PYTHONPATH")}
    settings = away | {"PYTHONPATH": str(site)}

    def start(*arguments: str, **more: str) -> subprocess.CompletedProcess:
        how = dict(cwd=tmp_path, env=settings | more, capture_output=True, text=True, check=False)
        return subprocess.run([sys.executable, *arguments], **how)

    return start


def test_the_wheel_holds_every_module_and_what_the_browser_needs_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    here = {f.relative_to(ROOT).as_posix() for f in (ROOT / "labkit").rglob("*") if "__pycache__" not in f.parts}
    assert names == {name for name in here if (ROOT / name).is_file()}
    assert {"labkit/live/panel.js", "labkit/live/panel.css", "labkit/py.typed"} <= names


def test_a_network_of_ones_own(run, site):
    ran = run("-c", OWN_NETWORK.format(site=str(site)))
    assert (ran.returncode, ran.stdout) == (0, "fine\n"), ran.stderr


@pytest.mark.parametrize(
    "call",
    ['lk.load_data("mnist")', 'lk.load_model("lenet-5", "mnist")', "lk.explore.overview()", 'lk.data.verified("x")'],
)
def test_what_needs_data_says_so(run, call):
    ran = run("-c", f"import labkit as lk; {call}")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == f"FileNotFoundError: {NO_DATA}"


@pytest.mark.parametrize("module", ["doctor", "data"])
def test_a_command_says_so_in_one_sentence(run, module):
    ran = run("-m", f"labkit.{module}")
    assert ran.returncode == 1
    assert (ran.stdout + ran.stderr).removeprefix("wrong: ") == f"{NO_DATA}\n"


def test_the_data_of_a_clone_serve(run):
    ran = run("-c", 'import labkit as lk; print(lk.load_data("digits"))', LABKIT_DATA=str(ROOT / "data"))
    assert ran.stdout.startswith("Data('digits'"), ran.stderr


def test_a_folder_that_is_no_data_folder(run, tmp_path):
    ran = run("-m", "labkit.data", LABKIT_DATA=str(tmp_path))
    said = f"LABKIT_DATA is '{tmp_path}', which holds no manifest.json; allowed: data/ of a clone\n"
    assert (ran.returncode, ran.stderr) == (1, said)
