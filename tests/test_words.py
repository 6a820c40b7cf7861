"""The check of plain words finds what is banned, where it is, and stops nothing else."""

import json
import re
from pathlib import Path

import pytest

from tests import words

BANNED = words.patterns(
    "# a comment\n\n\\bby lot\\b | at random\n\\bone (scale|row) an? [a-z]+\\b | per: one scale per channel"
)


def found(name, source):
    return words.found(Path(name), source, BANNED)


def notebook(*cells):
    return json.dumps(
        {"cells": [{"cell_type": kind, "source": text.splitlines(keepends=True)} for kind, text in cells]}
    )


@pytest.mark.parametrize(
    ("name", "source", "where"),
    [
        ("README.md", "Drawn at random.\nDrawn by lot.", "README.md:2"),
        ("README.md", "Drawn by\nlot.", "README.md:1"),
        ("docs/log.md", "With One Scale a channel.", "docs/log.md:1"),
        ("labkit/a.py", '"""Drawn\n\n    by lot."""', "labkit/a.py:3"),
        ("labkit/a.py", "x = 1  # drawn by lot", "labkit/a.py:1"),
        ("labkit/a.py", "# drawn by\n# lot\nx = 1", "labkit/a.py:1"),
        ("labkit/a.py", 'raise ValueError(f"{x} is drawn by lot")', "labkit/a.py:1"),
        ("tests/test_a.py", 'def test_a():\n    """By lot."""', "tests/test_a.py:2"),
        ("notebooks/a.ipynb", notebook(("code", "x = 1"), ("markdown", "Drawn\nby lot")), "notebooks/a.ipynb:cell 1:2"),
        ("notebooks/a.ipynb", notebook(("code", "x = 1\ny = 2  # by lot")), "notebooks/a.ipynb:cell 0:2"),
    ],
)
def test_a_planted_phrase_is_found_with_its_place_and_what_is_better(name, source, where):
    (line,) = found(name, source)
    assert line.startswith(f"{where}: '")
    assert line.endswith(("; better: at random", "; better: per: one scale per channel"))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("README.md", "Drawn at random, with one scale per channel; by lots of people."),
        ("labkit/a.py", "by = lot\nx = by ; lot"),
        ("labkit/a.py", '"drawn by" + lot\nf("by", "lot")'),
        ("labkit/a.py", "x = 1  # drawn by\nlot = 2"),
        ("tests/test_a.py", 'def test_a():\n    """At random."""\n    x = "by lot"  # by lot'),
        ("notebooks/a.ipynb", notebook(("code", 'x = "by lot"'))),
    ],
)
def test_what_is_not_banned_or_no_prose_passes(name, source):
    assert found(name, source) == []


def test_a_line_of_the_list_without_a_better_word_is_refused():
    with pytest.raises(ValueError, match=re.escape("should be 'pattern | better', but is 'by lot'")):
        words.patterns("by lot")


def test_a_project_with_a_planted_phrase_fails_and_one_without_passes(tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / words.LIST).write_text("\\bby lot\\b | at random\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text("Drawn at random.\n")
    assert words.main(tmp_path) == 0
    page.write_text("Drawn at random.\n\nDrawn by lot.\n")
    assert words.main(tmp_path) == 1
    assert "docs/page.md:3: 'by lot'; better: at random" in capsys.readouterr().out


def test_what_is_left_for_later_exists():
    assert all((words.ROOT / path).exists() for path in words.LATER)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ("the layer behind it", "the layer after it"),
        ("4 bits a weight", "4 bits per weight, which is what a weight needs"),
        ("one line a method", "one line per method; one line at a time"),
        ("one scale a channel", "one scale per channel"),
        ("the control, its twin", "the control run"),
        ("a silent unit", "a dead unit; it fails silently"),
        ("the teacher's answers", "the teacher's predictions"),
        ("learning by heart", "memorizing; at the heart of it"),
        ("the rest heals", "the rest is fine-tuned"),
        ("it bears two bits", "it tolerates two bits"),
    ],
)
def test_the_list_itself(bad, good):
    banned = words.patterns((words.ROOT / words.LIST).read_text(encoding="utf-8"))
    assert words.found(Path("README.md"), bad, banned) != []
    assert words.found(Path("README.md"), good, banned) == []
