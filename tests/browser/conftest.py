"""One JupyterLab and one Chromium for all browser tests; without a browser they are skipped, with the reason."""

from pathlib import Path

import nbformat
import pytest

from benchmarks import lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory):
    """A copy of each notebook up to its panel; nbval runs the rest. The first notebook is copied whole."""
    folder = tmp_path_factory.mktemp("notebooks")
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(file, as_version=4)
        if not file.name.startswith("00"):
            end = next(
                i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and "lk.explore." in cell.source
            )
            notebook.cells = notebook.cells[: end + 1]
        nbformat.write(notebook, folder / file.name)
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
