"""How long a slider takes from the key to the painted picture, beside the same work done with interact and pyplot.

    python -m benchmarks.slider [--presses 40]

One run drives a real JupyterLab in Chromium through every panel and, for the overview, through a notebook cell that
prunes, rounds, writes the file and scores on the same 5,000 images, but draws with `interact` and pyplot.
"""

import argparse
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from playwright.sync_api import Locator, Page

from benchmarks import lab
from benchmarks.machine import machine

PANELS = {
    "overview, LeNet-300-100": ("lk.explore.overview()", "sparsity"),
    "overview, bits": ("lk.explore.overview()", "bits"),
    "pruning, LeNet-300-100": ("lk.explore.pruning()", "sparsity"),
    "quantization, LeNet-300-100": ("lk.explore.quantization()", "bits"),
    "training with few bits, LeNet-300-100": ("lk.explore.sharing()", "bits"),
    "distillation, LeNet-5's answers": ("lk.explore.distillation()", "temperature T"),
    "structured pruning, LeNet-300-100": ("lk.explore.structured()", "sparsity"),
    "deep compression, LeNet-300-100": ("lk.explore.deep_compression()", "sparsity"),
    "order, LeNet-300-100": ("lk.explore.order()", "sparsity"),
    "architectures, LeNet-300-100": ("""
panel = lk.explore.architectures()
panel.controls["checkpoint"].value = ("lenet-300-100", "fashion-mnist")
panel
""", "sparsity"),
    "walks over a surface": ("lk.explore.optimizers()", "momentum, β₁"),
    "overview, LeNet-5 (preview)": ("""
panel = lk.explore.overview()
panel.controls["checkpoint"].value = ("lenet-5", "mnist")
panel
""", "sparsity"),
    "same work, interact + pyplot": ("""
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from labkit import plots
from labkit.sweep import compress, shipped_sweep
data, model = lk.load_data("mnist"), lk.load_model("lenet-300-100", "mnist")
dense = len(lk.encode(model)), lk.accuracy(model, data.validation)["accuracy"]
table = shipped_sweep("frontier", "lenet-300-100", "mnist")

def show(sparsity, bits):
    small = compress(model, sparsity, bits)
    score, ledger = lk.accuracy(small, data.validation), lk.ledger(small)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.7))
    plots.plane(left, table, *dense)
    left.plot(ledger["bytes"].sum(), plots.logit(score["accuracy"]), "*", ms=21)
    sizes = ledger.groupby("component")["bytes"].sum()
    right.barh(sizes.index, sizes)
    plt.show()

widgets.interact(show, sparsity=widgets.FloatSlider(0.8, min=0, max=0.99, step=0.01), bits=widgets.IntSlider(5, 1, 8));
""", "sparsity"),
}  # fmt: skip

# resolves to the milliseconds from the next key to the frame in which the new picture is on screen
WATCH = """([root, handle]) => {
  window.labkitPainted = new Promise(resolve => {
    let pressed = 0;
    handle.addEventListener("keydown", () => { pressed = performance.now(); }, { once: true, capture: true });
    const before = root.querySelector("img")?.src;
    const observer = new MutationObserver(async () => {
      const image = root.querySelector("img");
      if (!pressed || !image || image.src === before) return;
      observer.disconnect();
      await image.decode().catch(() => 0);
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - pressed), 0));
    });
    observer.observe(root, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
  });
}"""


def write_notebook(folder: Path, name: str, source: str) -> str:
    """A notebook of one cell; returns its file name."""
    cell = nbformat.v4.new_code_cell("import labkit as lk\n" + source.strip())
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / f"{name}.ipynb")
    return f"{name}.ipynb"


def times(page: Page, root: Locator, handle: Locator, presses: int) -> list[float]:
    """Milliseconds of `presses` single steps, to and fro over three steps; the prober sleeps while the lab works."""
    handle.focus()
    found = []
    for i in range(presses + 5):
        key = "ArrowRight" if i // 3 % 2 == 0 else "ArrowLeft"
        page.evaluate(WATCH, [root.element_handle(), handle.element_handle()])
        page.wait_for_timeout(100)
        page.keyboard.down(key)
        page.wait_for_timeout(500)
        found.append(page.evaluate("window.labkitPainted"))
        page.keyboard.up(key)
    return found[5:]  # the first ones still warm up


def measure(folder: Path, url: str, chrome: lab.Browser, presses: int) -> dict[str, list[float]]:
    """The times of every panel, and of the baseline."""
    result = {}
    for i, (name, (source, label)) in enumerate(PANELS.items()):
        page, _ = lab.open_notebook(chrome, url, write_notebook(folder, f"panel{i}", source))
        lab.run_all(page)
        root = page.locator(".jp-OutputArea").first
        root.locator("img").first.wait_for()
        page.wait_for_timeout(2_000)
        slider = root.locator(".widget-slider", has=page.get_by_text(label, exact=True)).first
        result[name] = times(page, root, slider.locator(".noUi-handle"), presses)
        page.close()
    return result


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slider")
    parser.add_argument("--presses", type=int, default=40)
    presses = parser.parse_args().presses
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "notebooks").mkdir()
        with lab.server(folder / "notebooks", folder) as url, lab.browser() as chrome:
            result = measure(folder / "notebooks", url, chrome, presses)
    print(f"{machine()}\n")
    print("| panel | key to paint, p50 | p95 | presses |\n| --- | ---: | ---: | ---: |")
    for panel, found in result.items():
        print(f"| {panel} | {np.percentile(found, 50):.0f} ms | {np.percentile(found, 95):.0f} ms | {len(found)} |")


if __name__ == "__main__":
    main()
