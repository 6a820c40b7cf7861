"""Panel of notebook 10b: techniques in any order, one-shot, then trained at equal budget."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from labkit import drawing
from labkit.compress._weights import weights
from labkit.compress.compose import as_stored, compose
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import LOOK, Compressed, CompressionView, zeros_by_layer
from labkit.live.controls import bits, choice, share
from labkit.live.network import Star, open_panel
from labkit.live.panel import Panel
from labkit.live.score import scores, workers
from labkit.live.training import batch_size, paced, training_set
from labkit.live.view import Card, Summary
from labkit.topics.order_matters import plots
from labkit.topics.order_matters.experiment import EPOCHS, IMAGES, ORDERS, POINTS

EARLIER = (drawing.GREEN, drawing.PURPLE, drawing.YELLOW, drawing.GREY)  # colours of trainings that have ended
Place = tuple[float, float]  # bytes, accuracy


def told(order: str) -> str:
    """An order in words: "prune, distil, then quantize", "prune only"."""
    *first, last = ORDERS[order] or ("fine-tune",)
    return f"{', '.join(first)}, then {last}" if first else f"{last} only"


MENU = sorted(ORDERS, key=lambda order: ("distil" in order, order == "fine-tune", ", " not in order))


@dataclass(frozen=True)
class Settings:
    """The values of the controls; `order` is a key of ORDERS."""

    order: str = choice(
        "order", [(told(order), order) for order in MENU], "quantize, prune", word="{}",
        note="the steps from first to last; each trains for an equal share of the epochs",
    )  # fmt: skip
    sparsity: float = share("sparsity", 0.95, note="share of the weights that prune sets to 0")
    bits: int = bits(value=3, floating=False, note="bits per weight after quantize")


@dataclass(frozen=True)
class Facts:
    """What the figure shows besides the score."""

    zeros: dict[str, float]  # share of zeros, by layer
    one_shot: Compressed | None = None  # of a training: the same composition one-shot
    swap: tuple[float, int] | None = None  # with prune and quantize swapped: accuracy, weights that differ
    path: tuple[tuple[int, Place], ...] = ()  # of a training so far: number of the step, place


class Order(CompressionView):
    """The view: the plane, zeros by layer, and the compositions that were trained."""

    name, settings_type, still_by = "order", Settings, "order"
    networks = (("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist"), ("lenet-5", "mnist"))
    runs, pure = True, False  # with the same settings, a training that has ended is shown
    scenes = {
        "quantize first": dict(order="quantize, prune", sparsity=0.95, bits=3),
        "prune first": dict(order="prune, quantize", sparsity=0.95, bits=3),
        "the order makes no difference": dict(order="quantize, prune", sparsity=0.9, bits=2),
        "then learn from the dense network": dict(order="prune, quantize, distil", sparsity=0.95, bits=3),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.ended: list[Compressed] = []
        boxes = (0.075, 0.14, 0.5, 0.785), (0.67, 0.6, 0.3, 0.325), (0.615, 0.03, 0.38, 0.33)
        self.plane, self.layers, self.key = map(self.live.figure.add_axes, boxes)

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The controls of steps that the order does not contain."""
        steps = ORDERS[settings["order"]]
        return {name for name, step in (("sparsity", "prune"), ("bits", "quantize")) if step not in steps}

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """The techniques one after the other, without training."""
        how: dict[str, Any] = dict(sparsity=settings.sparsity, bits=settings.bits, epochs=0)
        return compose(dense.model, dense.data.train, ORDERS[settings.order], **how)[0]

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Zeros by layer."""
        return Facts(zeros_by_layer(small))

    def measure(self, dense: Baseline, settings: Settings) -> Iterator[Compressed]:
        """The finished training; else the composition one-shot, then with prune and quantize swapped."""
        default = dataclasses.asdict(Settings())  # idle controls make no other composition
        settings = replace(settings, **{name: default[name] for name in self.idle(dataclasses.asdict(settings))})
        known = [one for one in self.ended if one.dense is dense and one.settings == settings]
        yield from known
        if not known:
            for point in super().measure(dense, settings):
                yield point
            yield replace(point, facts=replace(point.facts, swap=self.swapped(point)))

    def swapped(self, point: Compressed) -> tuple[float, int] | None:
        """The composition one-shot with prune and quantize swapped; None if it does not have both."""
        other = swapped_order(point.settings.order)
        if not other:
            return None
        settings = replace(point.settings, order=other)
        small = workers().submit(self.compress, point.dense, settings).result()
        *_, score = scores(small, point.dense.data.validation)
        pairs = zip(weights(small).values(), weights(point.model).values(), strict=True)
        return score.accuracy, sum(int(torch.count_nonzero(a != b)) for a, b in pairs)

    def train(
        self, settings: dict[str, Any], show: Callable[[Compressed], None], overtaken: Callable[[], bool]
    ) -> None:
        """Train the composition, unless that was done before; show its size and accuracy on the way."""
        *_, first = self.results(**settings)
        if first.training is not None:
            return
        dense, how, facts = first.dense, first.settings, replace(first.facts, one_shot=first)
        train, steps = training_set(dense.data, IMAGES), ORDERS[how.order]

        def picture(model: nn.Module, progress: float) -> None:
            nonlocal facts
            for measured in self.measured(dense, how, as_stored(model), training=progress):
                if overtaken():  # else the newer setting would wait for the rest of the measurement
                    return
                point = measured
            path = (*facts.path, (stage(progress, len(steps)), place(point)))
            facts = replace(facts, zeros=point.facts.zeros, path=path)
            show(point := replace(point, facts=facts))
            if progress == 1:
                self.ended.append(point)

        small, _ = compose(
            dense.model, train, steps, sparsity=how.sparsity, bits=how.bits, epochs=EPOCHS,
            batch_size=batch_size(train), after_step=paced(picture, LOOK), progress=False, cancel=overtaken,
        )  # fmt: skip
        if not overtaken():
            picture(small, 1.0)

    def background(self, point: Compressed) -> None:
        """The measured compositions, those of this order and of the swapped one as lines; empty bars and key."""
        dense, order = point.dense, point.settings.order
        sweep, shown = dense.sweep("order"), [name for name in (order, swapped_order(order)) if name]
        plots.order_plane(self.plane, sweep, dense.size_bytes, dense.score.accuracy, shown)
        self.plane.set_title("★ one-shot, ✚ trained; arrows: course of the training", fontsize=11, loc="left")
        means = plots.composed_means(sweep)
        means["sparsity"] = means["bits"].map(POINTS)
        self.offer(
            self.plane,
            means,
            lambda row: f"{plots.composed_caption(**row)}\ntrained beforehand, mean of seeds",
            lambda row: dict(order=row["steps"], sparsity=row["sparsity"], bits=row["bits"]),
        )
        self.bars = drawing.layer_bars(self.layers, dense.layers, "share of zeros", "zeros in each layer")
        self.way = plots.way_lines(self.plane)
        look: dict[str, Any] = dict(ms=9, mec="black", mew=0.6, zorder=5)
        self.ghosts = [self.plane.plot([], [], "P", color=colour, **look)[0] for colour in EARLIER]
        self.star = Star(self.live, self.plane)
        self.dashes, self.rows = drawing.key_rows(self.key, [drawing.SKY, *EARLIER])
        self.key.set_title("trained: now, and earlier", fontsize=11, loc="left")
        self.live.move([*self.bars, *self.way, *self.ghosts, *self.star.artists, *self.dashes, *self.rows])

    def update(self, point: Compressed) -> None:
        """Move the star, the course of the training, the earlier ones, best first, and the bars."""
        facts, dense, trained = point.facts, point.dense, point.training is not None
        begun, way = [step for step, _ in facts.path], [at for _, at in facts.path]
        earlier = [one for one in self.ended if one.dense is dense and one.settings != point.settings]
        best = sorted(earlier[-len(EARLIER) :], key=lambda one: -one.score.accuracy)
        if any([drawing.make_room(self.plane, *at) for at in [*map(place, best), *way]]):
            self.live.refresh()
        start = facts.one_shot or point
        self.star.place(start.size_bytes, start.score)
        if trained:
            self.star.place(point.size_bytes, point.score, trained=True)
        plots.fill_way(self.way, [(dense.size_bytes, dense.score.accuracy), *way], begun)
        for bar, zeros in zip(self.bars, facts.zeros.values(), strict=True):
            bar.set_width(zeros)
        for i, marker in enumerate(self.ghosts):
            drawing.set_points(marker, [place(one) for one in best[i : i + 1]])
        lines = [caption(point) if trained else "the training starts when the controls rest", *map(caption, best)]
        lines += [""] * (len(self.rows) - len(lines))
        for dash, text, line in zip(self.dashes, self.rows, lines, strict=True):
            dash.set_visible(bool(line))
            text.set_text(line)

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, weights left, the other order."""
        return [*super().cards(point), words.count_card(*point.left), swap_card(point)]

    def summarize(self, point: Compressed) -> Summary:
        """The composition in words."""
        share, steps, said = point.training, ORDERS[point.settings.order], super().summarize(point)
        status, title = "one-shot, nothing trained", said.title
        if share is not None:
            now = (steps or ("fine-tune",))[stage(share, len(steps))]
            images = f"{len(training_set(point.dense.data, IMAGES)):,} {point.score.what}"
            ended = f"trained: {EPOCHS} epochs of {images}, shared by the steps"
            status = f"training: {share:.0%} done, now {now}" if share < 1 else ended
        elif point.facts.swap:
            accuracy, differ = point.facts.swap
            title = f"{told(point.settings.order)}, one-shot: {point.score.accuracy:.1%}; swapped: "
            title += f"{accuracy:.1%}" if differ else "the same network, weight for weight"
        status, progress = f"{status}; {words.status(point.score)}", None if share == 1 else share
        return said._replace(status=status, title=title, progress=progress)

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Compose."""
        images = len(training_set(self.dense(settings.get("checkpoint")).data, IMAGES))
        far = f"sparsity={settings['sparsity']}, bits={settings['bits']}, epochs={EPOCHS}"
        made = f"small, history = lk.compose(model, train, {list(ORDERS[settings['order']])}, {far})"
        return [f"train = lk.data.take(data.train, {images})", made]


def place(point: Compressed) -> Place:
    """Its position on the plane."""
    return point.size_bytes, point.score.accuracy


def swapped_order(order: str) -> str:
    """The order with prune and quantize swapped; "" if it does not have both."""
    other = {"prune": "quantize", "quantize": "prune"}
    return ", ".join(other.get(step, step) for step in ORDERS[order]) if {*other} <= {*ORDERS[order]} else ""


def stage(progress: float, steps: int) -> int:
    """The index of the current step; between two steps, of the one that ends."""
    return max(0, math.ceil(round(progress * steps, 6)) - 1)


def swap_card(point: Compressed) -> Card:
    """What the other order gives one-shot."""
    label, both = "one-shot, swapped", swapped_order(point.settings.order)
    if not point.facts.swap:
        return label, "–", "measured when the controls rest" if both else "needs a prune and a quantize"
    accuracy, differ = point.facts.swap
    this = f"this: {(point.facts.one_shot or point).score.accuracy:.2%} · {differ:,} differ"
    return label, f"{accuracy:.2%}", this if differ else "the same, weight for weight"


def caption(point: Compressed) -> str:
    """A row of the key."""
    far = point.settings.sparsity, point.settings.bits
    return plots.composed_caption(point.settings.order, *far, point.score.accuracy, point.size_bytes)


def order(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 10b: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Order, model, data, preset)
