"""What the browser tests of panels that train share: a panel of its own notebook, its words, the pictures of a run."""

from contextlib import contextmanager

from benchmarks import lab
from benchmarks.slider import write_notebook

SECONDS = 120_000  # milliseconds, for a run on a busy machine
# one thread, as in the tests: with two the sums of a batch come in another order
ONE_THREAD = "import torch\ntorch.set_num_threads(1)\n"


@contextmanager
def trained_panel(url, chrome, notebooks, source, ended):
    """The panel that `source` ends with, once its first run has said `ended`; no console error may come of it."""
    page, errors = lab.open_notebook(chrome, url, write_notebook(notebooks, "live", source))
    lab.run_all(page)
    panel = lab.panel(page)
    waited(panel, ended)
    yield panel
    assert errors == []
    page.close()


def waited(panel, words):
    """Wait until the status line holds these words, or matches them."""
    panel.locator(".labkit-status", has_text=words).first.wait_for(timeout=SECONDS)


def told(panel, words):
    """Wait until the picture speaks of these words: behind a move, the status may still be that of the run before."""
    panel.locator(f'img.labkit-picture[alt*="{words}"]').wait_for(timeout=SECONDS)


def pictures(panel, enough, every=50):
    """How many different pictures the run that is under way shows, looked at `every` so many ms, `enough` at most."""
    image, status, seen = panel.locator("img.labkit-picture"), panel.locator(".labkit-status"), set()
    while "training: " in status.text_content() and len(seen) < enough:
        seen.add(image.get_attribute("src"))
        image.page.wait_for_timeout(every)
    return len(seen)
