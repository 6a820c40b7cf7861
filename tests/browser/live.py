"""What the browser tests of panels that train share: a panel of its own notebook, its words, whether a run streams."""

from contextlib import contextmanager

from benchmarks import lab
from benchmarks.slider import write_notebook

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
    panel.locator(".labkit-status", has_text=words).first.wait_for()


def told(panel, words):
    """Wait until the picture speaks of these words: behind a move, the status may still be that of the run before."""
    panel.locator(f'img.labkit-picture[alt*="{words}"]').wait_for()


# true when the page has shown two pictures of a run that is under way, or when none is
STREAMS = """root => {
  const training = root.querySelector(".labkit-status").textContent.startsWith("training: ");
  root.labkitSeen = root.labkitSeen || new Set();
  if (training) root.labkitSeen.add(root.querySelector("img.labkit-picture").src);
  return root.labkitSeen.size > 1 || !training;
}"""


def streams(panel):
    """Whether the run that is under way shows different pictures before it ends, looked at in every frame."""
    root = panel.element_handle()
    panel.page.wait_for_function(STREAMS, arg=root)
    return root.evaluate("root => { const seen = root.labkitSeen.size; delete root.labkitSeen; return seen > 1; }")
