"""What readers of the notebooks rely on: how long one takes, what to press, what comes next, links that work."""

import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SHARED = "How to read the panels"  # the section of 00 that explains what the others link to


def markdown(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def anchors(path):
    """The headings of a notebook, as JupyterLab links to them."""
    titles = re.findall(r"^#+ (.+)$", "\n".join(markdown(path)), re.MULTILINE)
    return {title.replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_at_the_top_how_long_it_takes(path):
    assert re.search(r"^\*About \d+ minutes\. .+\*$", markdown(path)[0], re.MULTILINE)


@pytest.mark.parametrize(("path", "following"), list(pairwise(NOTEBOOKS)), ids=lambda path: path.stem)
def test_a_notebook_links_to_the_next_at_its_end(path, following):
    assert re.search(rf"^Next: \[[^]]+\]\({following.name}\)", markdown(path)[-1], re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_to_a_notebook_leads_to_it_and_to_its_heading(path):
    links = re.findall(r"\]\(([^)#:]+\.ipynb)(?:#([^)]+))?\)", "\n".join(markdown(path)))
    assert links
    for name, anchor in links:
        assert (path.parent / name).exists()
        assert not anchor or anchor in anchors(path.parent / name)


def test_the_first_notebook_begins_with_what_to_press():
    first = nbformat.read(NOTEBOOKS[0], as_version=4).cells[0].source
    assert "Shift+Enter" in first
    assert "▶▶" in first
    assert "slider" in first


@pytest.mark.parametrize("term", ["The logit axis", "The frontier", "Wilson's interval", "McNemar's test"])
def test_what_all_panels_show_is_explained_once(term):
    explained = [path.stem for path in NOTEBOOKS if f"**{term}.**" in "\n".join(markdown(path))]
    assert explained == ["00_start_here"]


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_a_notebook_with_a_paired_test_links_to_its_explanation(path):
    text = "\n".join(markdown(path))
    assert not re.search(r"McNemar|\*won\*|`won`", text) or f"00_start_here.ipynb#{SHARED.replace(' ', '-')}" in text
