"""One JupyterLab and one Chromium for all browser tests; without a browser they are skipped, and say so."""

import shutil
from pathlib import Path

import pytest

from benchmarks import lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory):
    """A copy of the notebooks, so that running them does not touch the repository."""
    folder = tmp_path_factory.mktemp("notebooks")
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def url(notebooks, tmp_path_factory):
    if lab.chromium() is None:
        pytest.skip("no Chromium or Chrome on this machine: the panels were not tested in a browser")
    with lab.server(notebooks, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="session")
def chrome(url):
    with lab.browser() as browser:
        yield browser
