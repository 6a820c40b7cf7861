"""What the browser tests share: open a panel in its own notebook, read its texts, move its controls, wait for it."""

import re
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe

from benchmarks import lab
from benchmarks.slider import write_notebook

# one thread, as in the tests: with two the sums of a batch come in another order
ONE_THREAD = "import torch\ntorch.set_num_threads(1)\n"


@contextmanager
def opened(url, chrome, notebooks, name, source, **window):
    """The panel that `source` ends with, in a notebook of its own; the test fails on a console error."""
    page, errors = lab.open_notebook(chrome, url, write_notebook(notebooks, name, source), **window)
    lab.run_all(page)
    yield lab.panel(page)
    assert errors == []
    lab.close_notebook(page)


@contextmanager
def trained_panel(url, chrome, notebooks, source, ended):
    """The panel that `source` ends with, once the status of its first run contains `ended`."""
    with opened(url, chrome, notebooks, "live", source) as panel:
        waited(panel, ended)
        yield panel


def card(panel, label):
    """(value, note) of the card whose label begins with `label`."""
    found = panel.locator(".labkit-card").filter(has_text=re.compile(f"^{re.escape(label)}")).first
    return found.locator(".labkit-value").text_content(), found.locator(".labkit-note").text_content()


def handle(panel, label):
    """The slider with this label."""
    return panel.get_by_role("slider", name=label, exact=True)


def shown_value(panel, label):
    """The value that a slider shows."""
    return handle(panel, label).get_attribute("aria-valuetext")


def alt(panel):
    """The alt text of the current picture."""
    return panel.get_attribute("data-alt")


def answered(panel):
    """Wait until every move has its picture, and the settled result has not changed for a second."""
    page = panel.page
    page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    seen = None
    while seen != (seen := (alt(panel), panel.locator(".labkit-status").text_content())):
        page.wait_for_timeout(1_000)


def saved(panel, folder):
    """The file that the panel saves, in `folder`."""
    panel.locator(".labkit-more summary").click()
    with panel.page.expect_download() as download:
        panel.get_by_role("button", name="save file").click()
    path = Path(folder) / download.value.suggested_filename
    download.value.save_as(path)
    return path


def settle(panel):
    """Wait until the requested picture is there, settled."""
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    panel.locator(".labkit-status", has_text="scored on all").wait_for()
    answered(panel)


def press(panel, label, *keys):
    """Press keys on a slider, one after the other, each until its picture has settled."""
    for key in keys:
        handle(panel, label).press(key)
        settle(panel)


def choose(panel, label, option):
    """Choose from a menu, and wait until that has settled."""
    panel.get_by_label(label, exact=True).select_option(option)
    settle(panel)


def moved(panel, act):
    """Do something, wait until the alt text has changed, and return the new one."""
    before = alt(panel)
    act()
    panel.page.wait_for_function("([root, alt]) => root.dataset.alt !== alt", arg=[panel.element_handle(), before])
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    return alt(panel)


def waited(panel, words):
    """Wait until the status line contains these words, or matches them."""
    panel.locator(".labkit-status", has_text=words).first.wait_for()


def told(panel, words):
    """Wait until the alt text contains these words: after a move, the status may still be that of the earlier run."""
    holds = "([root, words]) => root.dataset.alt.includes(words)"
    panel.page.wait_for_function(holds, arg=[panel.element_handle(), words])


# true when the page has shown two pictures of a run that is under way, or when none is
STREAMS = """root => {
  const training = root.querySelector(".labkit-status").textContent.startsWith("training: ");
  root.labkitSeen = root.labkitSeen || new Set();
  if (training) root.labkitSeen.add(root.dataset.alt);
  return root.labkitSeen.size > 1 || !training;
}"""


def streams(panel):
    """Whether the current run shows different pictures before it ends, checked in every frame."""
    root = panel.element_handle()
    panel.page.wait_for_function(STREAMS, arg=root)
    return root.evaluate("root => { const seen = root.labkitSeen.size; delete root.labkitSeen; return seen > 1; }")


def violations(page):
    """What axe finds wrong in the panels of a page, with the first words of each element."""
    found = Axe().run(page, context=".labkit-panel").response["violations"]
    return [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found]
