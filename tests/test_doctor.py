"""The doctor: each fault is named with its cure, and a sound installation is called sound."""

import ast
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from labkit import doctor

SOUND = {"torch": "2.13.0+cpu", "numpy": "2.4.6", "ipywidgets": "8.1.9", "jupyterlab_widgets": "3.0.17"}
PIN = "jupyterlab_widgets~=3.0.15"


@pytest.fixture
def extensions(tmp_path):
    """A folder of lab extensions with both browser halves."""
    for name in doctor.EXTENSIONS.values():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "package.json").write_text(json.dumps({}))
    return tmp_path


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.13.0+cpu", (2, 13)), ("8.1.9", (8, 1, 9)), ("12", (12,)), ("3.0", (3,)), ("0.0", (0,))]
)
def test_release(version, numbers):
    assert doctor.release(version) == numbers


def test_python():
    assert doctor.python_problems((3, 11), ">=3.11") == []
    assert doctor.python_problems((3, 14), ">=3.11") == []
    assert doctor.python_problems((3, 9), ">=3.11") == [
        "Python is 3.9; labkit needs 3.11 or newer: install one, delete .venv, make lab"
    ]


def test_packages_that_suit():
    needed = ["torch==2.13.0", "numpy>=2.2", 'absent>=9; extra == "test"']
    assert doctor.package_problems(needed, SOUND.get) == []


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        ("torch==2.14.0", "torch is 2.13.0+cpu; labkit needs 2.14.0 exactly"),
        ("torch==2.13.1", "torch is 2.13.0+cpu; labkit needs 2.13.1 exactly"),
        ("numpy>=2.10", "numpy is 2.4.6; labkit needs 2.10 or newer"),
        ("absent", "absent is missing"),
        ("absent>=1", "absent is missing"),
    ],
)
def test_packages_that_do_not(needed, said):
    assert doctor.package_problems([needed], SOUND.get) == [f"{said}; run: python -m pip install --editable ."]


def test_front_ends_that_match(extensions):
    assert doctor.front_end_problems([PIN, "comm>=0.1.3"], SOUND.get, [extensions / "nowhere", extensions]) == []


@pytest.mark.parametrize(("found", "told"), [("1.1.11", "1.1.11"), (None, "missing")])
def test_a_front_end_of_another_generation(extensions, found, told):
    versions = SOUND | {"jupyterlab_widgets": found}
    assert doctor.front_end_problems([PIN], versions.get, [extensions]) == [
        f"jupyterlab_widgets is {told}; ipywidgets 8.1.9 speaks only to 3.x, so sliders stay blank; "
        "run: python -m pip install --force-reinstall ipywidgets jupyterlab_widgets"
    ]


def test_a_missing_lab_extension(extensions):
    (extensions / "anywidget/package.json").unlink()
    assert doctor.front_end_problems([PIN], SOUND.get, [extensions]) == [
        "JupyterLab has no extension anywidget, so views of anywidget stay blank; "
        "run: python -m pip install --force-reinstall anywidget"
    ]


def test_a_cuda_build_is_a_note():
    assert doctor.torch_warnings("2.13.0+cpu") == doctor.torch_warnings("2.13.0") == doctor.torch_warnings(None) == []
    assert doctor.torch_warnings("2.13.0+cu130") == [
        "torch is 2.13.0+cu130, a CUDA build; the lab runs on the CPU, and `make lab` installs that build"
    ]


def test_data(small_data):
    assert doctor.data_problems() == []
    (small_data / "digits/test-0.webp").unlink()
    said = "data/digits/test-0.webp is missing; run: git checkout -- data/digits/test-0.webp"
    assert doctor.data_problems() == [said]
    (small_data / "manifest.json").write_text("{")
    (problem,) = doctor.data_problems()
    assert problem.startswith("data/manifest.json cannot be read (")
    assert problem.endswith("); run: git checkout -- data/manifest.json")


def test_a_sound_installation(small_data, capsys):
    assert doctor.main() == 0
    assert capsys.readouterr().out == (
        "labkit is installed correctly: packages, widgets and data are as they should be\n"
    )


def test_a_faulty_installation(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: (["numpy is missing"], ["torch is large"]))
    assert doctor.main() == 1
    assert capsys.readouterr().out == "wrong: numpy is missing\nnote: torch is large\n"


def test_every_requirement_is_really_looked_up(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: "0.0.1")
    problems, _ = doctor.examine()
    for name in ("torch", "numpy", "pandas", "safetensors", "constriction", "anywidget"):
        assert any(p.startswith(f"{name} is 0.0.1; labkit needs ") for p in problems)


def test_labkit_itself_missing(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    monkeypatch.setattr(doctor.sys, "executable", "/usr/bin/python3")
    assert doctor.examine() == (
        ["labkit is not installed for /usr/bin/python3; run: python -m pip install --editable ."],
        [],
    )


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "null", "{", "\udcff", '{"a": 1}', '{"a": {"sha256": "0"}}', '{"a": {"sha256": 0, "bytes": 1}}'],
)
def test_a_manifest_that_is_none_is_no_sound_installation(small_data, text, capsys):
    (small_data / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    assert doctor.main() == 1
    said = capsys.readouterr().out
    assert said.startswith("wrong: data/manifest.json cannot be read (")
    assert said.endswith("); run: git checkout -- data/manifest.json\n")
    assert said.count("\n") == 1


def test_no_manifest_is_no_sound_installation(small_data, monkeypatch):
    (small_data / "manifest.json").unlink()
    said = f"LABKIT_DATA is '{small_data}', which holds no manifest.json; allowed: data/ of a clone"
    assert doctor.data_problems() == [said]


# an older Python


def test_an_older_python_is_told_by_its_version_alone(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 8, 18))
    assert doctor.main() == 1
    said = "Python is 3.8; labkit needs 3.11 or newer: install one, delete .venv, make lab"
    assert capsys.readouterr().out == f"wrong: {said}\n"


def test_the_oldest_python_is_that_of_the_installation():
    assert metadata.metadata("labkit")["Requires-Python"] == doctor.PYTHON
    assert doctor.python_problems(sys.version_info[:2], doctor.PYTHON) == []


@pytest.mark.parametrize("name", ["doctor.py", "__init__.py"])
def test_an_older_python_can_read_the_file(name):
    ast.parse((Path(doctor.__file__).parent / name).read_text(), feature_version=(3, 8))


def runs(python):
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


OLDER = [python for minor in range(8, 11) if (python := shutil.which(f"python3.{minor}")) and runs(python)]


@pytest.mark.parametrize("python", OLDER or [pytest.param("", marks=pytest.mark.skip("no older Python is here"))])
@pytest.mark.parametrize("command", [["labkit/doctor.py"], ["-m", "labkit.doctor"], ["-m", "labkit.data"]])
def test_a_real_older_python_is_told_in_one_sentence(python, command):
    root = Path(doctor.__file__).parent.parent
    ran = subprocess.run([python, *command], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    (line,) = (ran.stdout + ran.stderr).splitlines()
    assert "labkit needs" in line
    assert " 3.11 or newer" in line
