"""Panel of notebook 12: a budget in bytes; sparsity and bits of every layer follow, and the search goes on live."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from torch import nn

from labkit import drawing
from labkit.budget import Whole, cost_of_whole, improve, loss_of, measure_parts, sample, size_bytes, spend
from labkit.budget.allocate import linear_program, uniform
from labkit.budget.choices import Allocation, Table, weight_choices
from labkit.data import Data, Split
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import LOOK, Compressed, CompressionView
from labkit.live.controls import steps
from labkit.live.network import Star, open_panel
from labkit.live.panel import Panel
from labkit.live.score import sampled, whole
from labkit.live.view import Card, Summary
from labkit.topics.under_a_budget import experiment, plots

TRIES = 150  # joint networks that the swaps measure at most
DEVICES = {  # bytes of flash memory, from the data sheets; the third is the file of a benchmark (Banbury et al. 2021)
    "16 KB: STM32F030F4": 16_384,
    "64 KB: STM32F103C8": 65_536,
    "96 KB: MLPerf Tiny's ResNet": 98_304,
    "a phone: hardly a limit": 1_048_576,
}
BUDGETS = sorted({*(round(4096 * 2 ** (k / 4)) for k in range(33)), 98_304})
UNKNOWN = math.nan, math.nan


@dataclass(frozen=True)
class Settings:
    """What the controls set."""

    budget: int = steps(
        "budget", [(drawing.kilobytes(size), size) for size in BUDGETS], 16_384,
        note="bytes that the written file may have", word="at most {}",
    )  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """A network's parts measured alone, the images they were measured on, and the loss of the whole on these."""

    table: Table
    images: Split
    loss: float
    cost: Whole  # bytes of the file of an allocation


@dataclass(frozen=True)
class Plan:
    """How a budget is spent so far: an allocation, and (sum of the parts, measured or NaN) of each method."""

    allocation: Allocation
    settings: pd.DataFrame  # of the parts
    rises: Mapping[str, tuple[float, float]]
    searched: float = 0.0  # the share of the search that is done


class UnderABudget(CompressionView):
    """The view: plane, bits and sparsity by layer, sum of the parts beside the joint network."""

    name, settings_type, networks, runs, pure = "budget", Settings, experiment.NETWORKS, True, False
    file_note = "the network under the budget, as a .lk file; BatchNorm is folded: see lk.fold_batchnorm"
    scenes = {device: dict(budget=size) for device, size in DEVICES.items()}

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        boxes = (0.06, 0.345), (0.475, 0.115), (0.605, 0.115), (0.815, 0.175)
        axes = [self.live.figure.add_axes((left, 0.14, width, 0.76)) for left, width in boxes]
        self.plane, self.bits, self.sparsities, self.rises = axes
        self._parts: dict[int, Parts] = {}
        self._plans: dict[tuple[int, int], Plan] = {}

    def parts(self, dense: Baseline) -> Parts:
        """Every part alone: as shipped, else measured, once."""
        if id(dense) not in self._parts:
            model, rows = dense.model, dense.sweep("parts")
            choices = weight_choices(model, None if len(rows) else experiment.COARSE)
            few = sample(dense.data.train, min(experiment.images_for(choices), len(dense.data.train)), 0)
            if len(rows):
                table = experiment.table_from(choices, rows)
            else:
                table = measure_parts(model, few, choices=choices, progress=False)
            self._parts[id(dense)] = Parts(table, few, loss_of(model, few), cost_of_whole(table, size_bytes))
        return self._parts[id(dense)]

    def plan(self, dense: Baseline, budget: int) -> Plan:
        """The plan so far; at first that of the linear program, before the loss of the whole network is measured."""
        if (id(dense), budget) not in self._plans:
            table, cost, searched = self.parts(dense).table, self.parts(dense).cost, 0
            try:
                found = spend(linear_program, table, cost, budget)
                rise = table.predicted(found), math.nan
            except ValueError:  # nothing is so cheap: the cheapest network, and nothing to search for
                found, searched = tuple(int(s) for s in table.price.argmin(1)), 1
                rise = self.rise(dense, found)
            rises = {"uniform": UNKNOWN, "linear program": rise, "swaps": rise}
            self._plans[id(dense), budget] = Plan(found, table.rows(found), rises, searched)
        return self._plans[id(dense), budget]

    def start(self, dense: Baseline, budget: int, plan: Plan) -> Plan:
        """A first plan measured on the whole network, or one setting for all parts where that is better."""
        known, found = self.parts(dense), {"linear program": plan.allocation}
        with contextlib.suppress(ValueError):  # no single setting may be so cheap
            found["uniform"] = spend(uniform, known.table, known.cost, budget)
        rises = {name: self.rise(dense, allocation) for name, allocation in found.items()}
        best = min(rises, key=lambda name: rises[name][1])
        return Plan(found[best], known.table.rows(found[best]), {**plan.rises, **rises, "swaps": rises[best]})

    def rise(self, dense: Baseline, allocation: Allocation) -> tuple[float, float]:
        """The rise of the loss: the sum of what the parts cost alone, and that of the joint network."""
        known = self.parts(dense)
        return known.table.predicted(allocation), self.joint(dense, known.table.choices.build(allocation)) - known.loss

    def joint(self, dense: Baseline, small: nn.Module) -> float:
        """The loss on the images of the parts."""
        return loss_of(small, self.parts(dense).images)

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """The network of the plan."""
        return self.parts(dense).table.choices.build(self.plan(dense, settings.budget).allocation)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Plan:
        """The plan itself."""
        return self.plan(dense, settings.budget)

    def train(
        self, settings: dict[str, Any], show: Callable[[Compressed], None], overtaken: Callable[[], bool]
    ) -> None:  # fmt: skip
        """Swap bytes between layers, measured on the joint network, until no swap helps; each better plan is shown."""
        point: Compressed = next(self.results(**settings))
        dense, budget, plan = point.dense, point.settings.budget, point.facts
        if plan.searched == 1 or overtaken():
            return
        if not point.score.settled:  # a preview of a few images would stand there during the whole search
            point = next(self.measured(dense, point.settings, point.model, sampled))
            show(point)
        table, cost, due = self.parts(dense).table, self.parts(dense).cost, 0.0
        shown = plan.allocation
        if math.isnan(plan.rises["swaps"][1]):  # else an earlier search got this far
            plan = self.start(dense, budget, plan)
        found = improve(table, plan.allocation, cost, budget, partial(self.joint, dense))
        for tried, (allocation, loss) in enumerate(itertools.islice(found, TRIES), 1):
            if overtaken():
                return
            if allocation != plan.allocation:
                rises = {**plan.rises, "swaps": (table.predicted(allocation), loss - self.parts(dense).loss)}
                plan = Plan(allocation, table.rows(allocation), rises)
            self._plans[id(dense), budget] = plan
            if better := plan.allocation != shown:
                shown = plan.allocation
                point = next(self.measured(dense, point.settings, table.choices.build(shown), sampled))
            if better or time.perf_counter() > due:
                show(replace(point, facts=replace(plan, searched=tried / TRIES)))
                due = time.perf_counter() + LOOK
        self._plans[id(dense), budget] = plan = replace(plan, searched=1)
        for result in self.measured(dense, point.settings, table.choices.build(plan.allocation), whole):
            show(result)

    def background(self, point: Compressed) -> None:
        """The plane with the one-shot frontier, an empty bar for each layer, two for each method."""
        dense, names = point.dense, list(point.facts.settings["part"])
        records = dense.sweep("frontier")
        plots.budget_plane(self.plane, records, dense.size_bytes, dense.score.accuracy)
        self.offer(self.plane, records, caption, lambda row: {})
        self.widths = plots.setting_bars(self.bits, names, "bits", ("0", "4", "8"), drawing.BLUE, 8)
        self.zeros = plots.setting_bars(
            self.sparsities, [""] * len(names), "sparsity", ("0", "", "100 %"), drawing.GREEN, 1
        )
        self.pairs = plots.rise_bars(self.rises)
        (self.limit,) = self.plane.plot([], [], "-", color=drawing.BLACK, lw=1.5)
        self.star = Star(self.live, self.plane)
        bars = [*self.widths, *self.zeros, *(bar for pair in self.pairs.values() for bar in pair)]
        self.live.move([self.limit, *bars, *self.star.artists])

    def update(self, point: Compressed) -> None:
        """Move the budget, the point and the bars."""
        rows, low_high = point.facts.settings, self.plane.get_ylim()
        self.limit.set_data([point.settings.budget] * 2, low_high)
        self.star.place(point.size_bytes, point.score)
        for bars, values in ((self.widths, rows["bits"]), (self.zeros, rows["sparsity"])):
            for bar, value in zip(bars, values, strict=True):
                bar.set_width(value)
        for place, pair in enumerate(self.pairs.values()):
            for bar, method in zip(pair, plots.METHODS, strict=True):
                bar.set_width(float(plots.rise_scale(point.facts.rises[method][place])))

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy; the file beside the budget; the sum of the parts beside the whole; who gets most bytes."""
        plan, budget = point.facts, point.settings.budget
        summed, measured = plan.rises["swaps"]
        beside = f"{point.size_bytes / budget:.1%} of the budget of {budget:,} B"
        if point.size_bytes > budget:
            beside = f"no setting is as cheap as {budget:,} B"
        file = "file", f"{point.size_bytes:,} B", beside
        figure = "…" if math.isnan(measured) else f"{measured:.3g}"
        rise = "rise of the loss", figure, f"the parts alone add up to {summed:.3g}"
        rows = plan.settings
        per_weight = 8 * rows["price"] / rows["size"]
        most, least = per_weight.idxmax(), per_weight.idxmin()
        spread = f"{per_weight[most]:.2g} to {per_weight[least]:.2g}"
        where = f"{short(rows['part'][most])} to {short(rows['part'][least])}"
        return [*super().cards(point)[:1], file, rise, ("bits per weight", spread, where)]

    def summarize(self, point: Compressed) -> Summary:
        """The point in words; the status tells how far the search is."""
        told, done = super().summarize(point), point.facts.searched
        search = "; the search has ended" if done == 1 else f"; swaps: {done:.0%} of {TRIES} networks measured"
        return told._replace(status=told.status + search)

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Fit the budget."""
        return [f"small, parts = lk.fit_budget(model, data, {settings['budget']})"]


def short(part: str) -> str:
    """A layer's name."""
    return part.removesuffix(".weight")


def caption(row: Mapping[Any, Any]) -> str:
    """A measured setting in words."""
    bits = "not rounded" if row["bits"] == 32 else f"{row['bits']} bits"
    return words.measured(f"sparsity {row['sparsity']:.0%} over all layers, {bits}", row)


def budget(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 12: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(UnderABudget, model, data, preset)
