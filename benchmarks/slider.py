"""How long a panel takes from a move to the painted picture, beside the floor and the same work with interact.

    python -m benchmarks.slider [--presses 40] [--panel NAME]

One run drives a real JupyterLab in Chromium. Every painted picture carries the number of the move that it answers, so
that no earlier picture is taken for it. Three kinds of figures:

- cold: distinct stops of one slider in random order, without the focus, so that nothing is measured ahead or kept;
- prepared: one arrow key after the other, with time between them: the next stops have been measured ahead;
- drag: sixty stops in a second, as a hand drags; the share of the painted pictures that were prepared.

The floor is the time of torch's own forward pass over the same images, in the same kernel, right after. The same work
with `interact` and pyplot prunes, rounds, writes the file and scores on the same images.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from playwright.sync_api import Locator, Page

from benchmarks import lab
from benchmarks.machine import machine

INTERACT = "same work, interact + pyplot"
LARGER = {
    "LeNet-5": ("lenet-5", "mnist"),
    "ViT": ("vit", "fashion-mnist"),
    "ResNet-20": ("resnet-20", "cifar10"),
    "MobileNet": ("mobilenet", "cifar10"),
}
PANELS = {
    "overview, LeNet-300-100": ("lk.explore.overview()", "sparsity"),
    "overview, bits": ("lk.explore.overview()", "bits"),
    "pruning, LeNet-300-100": ("lk.explore.pruning()", "sparsity"),
    "quantization, LeNet-300-100": ("lk.explore.quantization()", "bits"),
    "shared weights, LeNet-300-100": ("lk.explore.sharing()", "prune first"),
    "distillation, LeNet-5's answers": ("lk.explore.distillation()", "temperature T"),
    "structured pruning, LeNet-300-100": ("lk.explore.structured()", "sparsity"),
    "deep compression, LeNet-300-100": ("lk.explore.deep_compression()", "sparsity"),
    "order, LeNet-300-100": ("lk.explore.order()", "sparsity"),
    "architectures, LeNet-300-100": ("""
panel = lk.explore.architectures()
panel.set(checkpoint=("lenet-300-100", "fashion-mnist"))
panel
""", "sparsity"),
    "walks over a surface": ("lk.explore.optimizers()", "momentum, β₁"),
    **{
        f"overview, {label} (first answer)": (f"""
panel = lk.explore.overview()
panel.set(checkpoint={key})
panel
""", "sparsity")
        for label, key in LARGER.items()
    },
    INTERACT: ("""
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from labkit import drawing
from labkit.compress.compose import one_shot
from labkit.sweep import shipped_sweep
data, model = lk.load_data("mnist"), lk.load_model("lenet-300-100", "mnist")
dense = len(lk.encode(model)), lk.accuracy(model, data.validation)["accuracy"]
table = shipped_sweep("frontier", "lenet-300-100", "mnist")

def show(sparsity, bits):
    small = one_shot(model, sparsity, bits)
    score, ledger = lk.accuracy(small, data.validation), lk.ledger(small)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.7))
    drawing.plane(left, table, *dense)
    left.plot(ledger["bytes"].sum(), score["accuracy"], "*", ms=21)
    sizes = ledger.groupby("component")["bytes"].sum()
    right.barh(sizes.index, sizes)
    plt.show()

widgets.interact(show, sparsity=widgets.FloatSlider(0.8, min=0, max=0.99, step=0.01), bits=widgets.IntSlider(5, 1, 8));
""", "sparsity"),
}  # fmt: skip


# milliseconds of torch's own forward pass over the images that a panel scores
FLOOR = """
import time
model, x = lk.load_model("{0}", "{1}").eval(), lk.load_data("{1}").validation.x
times = []
for _ in range({2}):
    start = time.perf_counter()
    with torch.inference_mode():
        model(x)
    times.append(1000 * (time.perf_counter() - start))
print("floor", sorted(times)[len(times) // 2])
"""

# moves a slider to a stop, as a hand does, and resolves when a picture that answers it is painted:
# [milliseconds, whether it was prepared, whether all images were scored]
MOVE = """([root, range, stop]) => new Promise((resolve) => {
  const began = performance.now();
  range.value = stop;
  range.dispatchEvent(new Event("input", { bubbles: true }));
  const asked = Number(root.dataset.asked);
  const painted = () => {
    if (Number(root.dataset.request) < asked) return;
    observer.disconnect();
    const prepared = root.dataset.prepared === "true";
    const complete = root.querySelector(".labkit-status").textContent.startsWith("scored on all");
    requestAnimationFrame(() => setTimeout(() => resolve([performance.now() - began, prepared, complete]), 0));
  };
  const observer = new MutationObserver(painted);
  observer.observe(root, { attributes: true, attributeFilter: ["data-request"] });
  painted(); // a picture that was drawn ahead is there at once
})"""

# drags a slider over stops, one a frame, and resolves to [pictures painted, of them prepared]
DRAG = """([root, range, stops]) => new Promise((resolve) => {
  let painted = 0, prepared = 0, last = 0;
  const observer = new MutationObserver(() => {
    painted += 1;
    prepared += root.dataset.prepared === "true";
    if (last && Number(root.dataset.request) >= last) { observer.disconnect(); resolve([painted, prepared]); }
  });
  observer.observe(root, { attributes: true, attributeFilter: ["data-request"] });
  const step = (i) => {
    range.value = stops[i];
    range.dispatchEvent(new Event("input", { bubbles: true }));
    if (i + 1 < stops.length) requestAnimationFrame(() => step(i + 1));
    else last = Number(root.dataset.asked);
  };
  step(0);
})"""

# of interact: resolves when the new image is painted
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


def of_panel(page: Page, label: str, presses: int) -> dict[str, list[float]]:
    """Milliseconds of cold and of prepared moves; how many cold ones had all images scored, the share of a drag."""
    root, slider = lab.panel(page), lab.panel(page).get_by_role("slider", name=label, exact=True)
    page.wait_for_timeout(3_000)
    handles = [root.element_handle(), slider.element_handle()]
    stops = list(range(int(slider.get_attribute("max") or 0) + 1))
    random.Random(0).shuffle(stops)
    now = int(slider.input_value())
    near = 3 if len(stops) > 20 else 0  # what the panel may have measured ahead while it opened
    cold = [stop for stop in stops if abs(stop - now) > near][: presses + 3]
    found: dict[str, list[float]] = {"cold": [], "complete": [], "prepared": [], "drag": []}
    for i, stop in enumerate(cold):
        page.wait_for_timeout(700)  # so that what settles the move before is over
        milliseconds, _, complete = page.evaluate(MOVE, [*handles, stop])
        if i > 2:  # the first ones still warm up
            found["cold"].append(milliseconds)
            found["complete"].append(complete)
    slider.focus()
    middle = len(stops) // 2
    page.evaluate(MOVE, [*handles, middle])
    for i in range(presses):
        page.wait_for_timeout(1_500)
        milliseconds, prepared, _ = page.evaluate(MOVE, [*handles, middle + (i % 2) + (i // 8)])
        if prepared:
            found["prepared"].append(milliseconds)
    page.wait_for_timeout(1_500)
    if len(stops) > 50:
        found["drag"] = page.evaluate(DRAG, [*handles, list(range(20, 80))])
    return found


def of_interact(page: Page, root: Locator, label: str, presses: int) -> list[float]:
    """Milliseconds of single steps through distinct stops."""
    slider = root.locator(".widget-slider", has=page.get_by_text(label, exact=True)).first
    handle = slider.locator(".noUi-handle")
    handle.focus()
    found = []
    for _ in range(presses + 3):
        page.evaluate(WATCH, [root.element_handle(), handle.element_handle()])
        page.wait_for_timeout(300)
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(900)
        found.append(page.evaluate("window.labkitPainted"))
    return found[3:]


def floor(page: Page, model: str, data: str, times: int) -> float:
    """The median milliseconds of the forward pass, in the kernel of the page."""
    page.evaluate(
        "code => { const panel = window.jupyterapp.shell.currentWidget, model = panel.content.model;"
        "model.sharedModel.addCell({ cell_type: 'code', source: code }); }",
        FLOOR.format(model, data, times),
    )
    page.evaluate(
        "() => { const n = window.jupyterapp.shell.currentWidget.content; n.activeCellIndex = n.widgets.length - 1;"
        "return window.jupyterapp.commands.execute('notebook:run-cell'); }"
    )
    text = page.locator(".jp-OutputArea-output", has_text="floor ").last
    return float((text.text_content() or "").split()[1])


def measure(folder: Path, url: str, chrome: lab.Browser, presses: int, only: str) -> dict[str, Any]:
    """The figures of every panel, and of the baseline."""
    result: dict[str, Any] = {}
    for i, (name, (source, label)) in enumerate(PANELS.items()):
        if only not in name and name != INTERACT:
            continue
        page, _ = lab.open_notebook(chrome, url, write_notebook(folder, f"panel{i}", "import torch\n" + source))
        lab.run_all(page)
        if name == INTERACT:
            root = page.locator(".jp-OutputArea").first
            root.locator("img").first.wait_for()
            page.wait_for_timeout(2_000)
            result[name] = {"cold": of_interact(page, root, label, presses), "complete": [], "prepared": [], "drag": []}
        else:
            result[name] = of_panel(page, label, presses)
        larger = [key for label, key in LARGER.items() if name == f"overview, {label} (first answer)"]
        result[name]["floor"] = floor(page, *larger[0], 3) if larger else floor(page, "lenet-300-100", "mnist", 25)
        lab.close_notebook(page)
        print(json.dumps({name: result[name]}), flush=True)
    return result


def row(name: str, found: dict[str, Any]) -> str:
    """A line of the table."""

    def both(times: list[float]) -> str:
        return f"{np.percentile(times, 50):.0f} / {np.percentile(times, 95):.0f} ms" if times else "–"

    painted, prepared = found["drag"] or (0, 0)
    drag = f"{prepared:.0f} of {painted:.0f}" if painted else "–"
    complete = f"{sum(found['complete']):.0f} of {len(found['complete'])}" if found["complete"] else "–"
    cells = [name, f"{found['floor']:.0f} ms", both(found["cold"]), complete, both(found["prepared"]), drag]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slider")
    parser.add_argument("--presses", type=int, default=40)
    parser.add_argument("--panel", default="", help="only panels whose name holds this")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "notebooks").mkdir()
        with lab.server(folder / "notebooks", folder) as url, lab.browser() as chrome:
            result = measure(folder / "notebooks", url, chrome, asked.presses, asked.panel)
    print(f"{machine()}\n")
    print("| panel | floor | cold, p50 / p95 | of them complete | prepared, p50 / p95 | prepared in a drag |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(row(name, found) for name, found in result.items()))


if __name__ == "__main__":
    main()
