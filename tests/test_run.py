"""`make test`: every part runs, whatever failed before it, and the end says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import run

GOOD = "def test_a(): pass\ndef test_b(): pass\n"
MIXED = "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('no')\n"


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Parts of our own: each is pytest over a file of this text, in a folder without settings; "gone" is no module."""
    texts = {"good": GOOD, "mixed": MIXED, "empty": "", "broken": "import nothing_of_this_name\n"}
    (tmp_path / "pytest.ini").touch()
    for name, text in texts.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    commands = {name: [*run.PYTEST, "-p", "no:cacheprovider", f"test_{name}.py"] for name in texts}
    monkeypatch.setattr(run, "COMMANDS", commands | {"gone": ["nothing_of_this_name"], "fine": ["this"]})
    monkeypatch.setattr(run, "ROOT", tmp_path)


@pytest.mark.parametrize(
    ("names", "code", "last"),
    [
        (["good"], 0, "2 passed, 0 failed, 0 skipped"),
        (["fine", "good"], 0, "2 passed, 0 failed, 0 skipped"),
        (["mixed", "good"], 1, "3 passed, 1 failed, 1 skipped"),
        (["gone", "good"], 1, "2 passed, 1 failed, 0 skipped"),
        (["empty", "good"], 1, "2 passed, 1 failed, 0 skipped"),
        (["broken", "good"], 1, "2 passed, 1 failed, 0 skipped"),
    ],
)
def test_every_part_runs_and_the_end_says_what_failed(parts, capfd, names, code, last):
    assert run.main(names) == code
    out = capfd.readouterr().out.splitlines()
    assert out[-1] == last
    ends = [line.split()[:2] for line in out[-1 - len(names) : -1]]
    assert ends == [[name, "ok" if name in ("good", "fine") else "FAILED"] for name in names]


def test_a_part_that_does_not_exist_is_refused():
    ran = subprocess.run([sys.executable, "tests/run.py", "stile"], cwd=run.ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("no part is called 'stile'; allowed: style, format, types, words, quick, tests, ")


@pytest.mark.parametrize(("target", "parts"), [("test", []), ("quick", ["style", "format", "types", "words", "quick"])])
def test_make_runs_the_parts_and_fails_with_them(target, parts, tmp_path):
    """With a Python that writes down what it was asked, and fails."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit 1\n')
    python.chmod(0o755)
    for stamp in (".python", ".lab", ".test"):
        (tmp_path / stamp).touch()
    ran = subprocess.run(["make", target, f"VENV={tmp_path}"], cwd=run.ROOT, capture_output=True, text=True,
                         env=os.environ | {"MAKEFLAGS": ""})  # fmt: skip
    assert ran.returncode != 0
    assert (tmp_path / "asked").read_text().split() == ["tests/run.py", *parts]


def test_together_the_parts_are_all_there_is():
    marks = {part: " ".join(words) for part, words in run.COMMANDS.items()}
    assert run.ALL == ["style", "format", "types", "words", "tests", "browser", "notebooks"]
    assert "not browser" in marks["tests"]
    assert " tests/browser " in marks["browser"]
    assert all(f"notebooks/{path.name}" in marks["notebooks"] for path in Path(run.ROOT).glob("notebooks/*.ipynb"))
