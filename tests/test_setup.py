"""What a newcomer meets first: the top level, the two ways to install, and notebooks that read well unexecuted."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
CONDA_NAME = {"torch": "pytorch"}
MAX_LINES = 15
# put together here, so that this file does not find itself
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "debian" + ".org", "anaconda" + ".org"]


def bounds(requirements):
    """{"numpy": ("=", "2.2")} of "numpy>=2.2"; a pin "==" counts as conda's "="."""
    split = [re.fullmatch(r"([\w-]+)(>?=)=?([\d.]+(?:,<[\d.]+)?)(=cpu\*)?", r).groups() for r in requirements]
    return {name: (how, version) for name, how, version, _ in split}


def committed():
    """Every text file that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    if listed == [""]:  # an archive without git
        listed = [f.relative_to(ROOT).as_posix() for f in ROOT.glob("[!.]*/**/*") if f.is_file()]
    for name in listed:
        try:
            yield name, (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "Makefile", "pyproject.toml", "environment.yml", ".ci/run", "data/README.md"),
        *("data/manifest.json", "LICENSE", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md"),
    ],
)
def test_top_level_exists(name):
    assert (ROOT / name).stat().st_size > 0


def test_environment_yml_equals_pyproject():
    *conda, pip = [d for d in ENVIRONMENT["dependencies"] if d != "pip"]
    assert pip["pip"][-1] == "-e ."
    ours = bounds([*conda, *pip["pip"][:-1]])
    assert ours.pop("python") == (">=", PYPROJECT["project"]["requires-python"].removeprefix(">="))
    theirs = {CONDA_NAME.get(name, name): b for name, b in bounds(PYPROJECT["project"]["dependencies"]).items()}
    assert ours == theirs


def test_environment_yml_brings_the_cpu_build_from_conda_forge_alone():
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    (torch,) = [d for d in ENVIRONMENT["dependencies"] if str(d).startswith("pytorch")]
    assert torch.endswith("=cpu*")


def test_make_installs_the_pinned_torch_as_a_cpu_build():
    (pin,) = [d for d in PYPROJECT["project"]["dependencies"] if d.startswith("torch==")]
    dry = ["make", "--dry-run", "--always-make", "VENV=/nowhere", "lab"]
    said = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    local = "+cpu" if os.uname().sysname == "Linux" else ""
    assert re.search(rf"pip install .*{re.escape(pin + local)}$", said, re.MULTILINE)


def test_an_old_python_is_refused_in_one_sentence(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])" "$2"\n')
    old.chmod(0o755)
    ran = subprocess.run(
        ["make", "lab", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    said = f"labkit needs Python 3.11 or newer, but {old} is 3.9; run: make lab PYTHON=/path/to/python3.11"
    assert said in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_ci_runs_make_test():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().rstrip().splitlines()[-1] == "make test"


def test_github_runs_the_same():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert workflow["jobs"]["test"]["steps"][-1] == {"run": ".ci/run"}


def test_the_version_and_the_licence_are_said_alike_everywhere():
    citation, project = yaml.safe_load((ROOT / "CITATION.cff").read_text()), PYPROJECT["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"({project['version']})" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_package_says_that_it_is_typed():
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["labkit"]
    assert (ROOT / "labkit/py.typed").exists()


def test_the_licence_names_that_of_each_data_set():
    row = re.compile(r"^\|[^|]+\| `(\w[\w-]*/)` \|.*\| ([^|]+) \|$", re.MULTILINE)
    rows = row.findall((ROOT / "data/README.md").read_text())
    assert len(rows) == 5
    text = (ROOT / "LICENSE").read_text()
    for folder, licence in rows:
        assert re.search(rf"data/{folder} +{re.escape(licence.split(' (')[0])}", text), folder


LINKED = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "benchmarks/README.md", *DOCS]


@pytest.mark.parametrize("name", LINKED)
def test_every_link_to_a_file_leads_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text())
    assert not [link for link in links if not ((ROOT / name).parent / link).exists()]


def test_files_named_by_contributing_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:labkit|tests|notebooks|data)/[a-z_/.]*)`", text)  # in capitals: names to choose
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]
    targets = set(re.findall(r"\bmake (\w+)", text))
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_no_second_torch_package_and_no_package_host():
    """The lab needs no picture package of torch, and the address of a registry belongs in pip's own settings."""
    for name, text in committed():
        assert ("torch" + "vision") not in text, name
        assert not [host for host in HOSTS if host in text], name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_clean(path):
    notebook = json.loads(path.read_text())
    assert "widgets" not in notebook["metadata"]
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
        source = "".join(cell["source"])
        assert not [o for o in cell["outputs"] if o["output_type"] == "error"], source
        assert len(source.splitlines()) <= MAX_LINES, source
