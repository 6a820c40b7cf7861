"""Panel of notebook 13: a network in the formats that it can leave the lab in, each written, run and timed here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from labkit import drawing
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, steps
from labkit.live.network import NetworkView, open_panel
from labkit.live.panel import Panel
from labkit.live.view import Card, Summary
from labkit.significance import wilson
from labkit.topics.ship_it import experiment, plots
from labkit.topics.ship_it.experiment import FORMATS, Shipped

LINES, LETTERS = 9, 62  # of the beginning of a file
Clock = tuple[float, float, float]  # lowest, median, highest milliseconds


@dataclass(frozen=True)
class Settings:
    """What the controls set."""

    format: str = choice("format", list(FORMATS), "labkit, 4 bits", note="how the network leaves the lab", word="as {}")
    batch: int = steps(
        "images at once", [(str(n), n) for n in (1, 4, 16, 64)], 1,
        note="images in one pass, whose milliseconds are measured", word="images at once {}",
    )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A network in one format: bytes of the file, correct images, milliseconds; `refused` says why there is none."""

    shipped: Shipped | None = None
    correct: int = 0
    clock: Clock | None = None
    refused: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return self.shipped.size_bytes if self.shipped else 0


@dataclass(frozen=True)
class Formats:
    """The chosen format, and all that were measured so far."""

    dense: Baseline
    settings: Settings
    measured: dict[str, Measured]

    @property
    def chosen(self) -> Measured:
        """That of the present format."""
        return self.measured[self.settings.format]


class ShipIt(NetworkView):
    """The view: three bars for each format, and the first lines of the chosen file."""

    name, settings_type, networks = "ship it", Settings, experiment.NETWORKS
    file_note = "the network in the chosen format"
    scenes = {
        "a file for this lab": dict(format="labkit, 4 bits"),
        "for any runtime": dict(format="ONNX, float32"),
        "fast integers": dict(format="ONNX, int8", batch=64),
        "onto a microcontroller": dict(format="C, 4 bits", batch=1),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        boxes = (0.17, 0.41, 0.2, 0.5), (0.475, 0.41, 0.2, 0.5), (0.78, 0.41, 0.2, 0.5), (0.01, 0.02, 0.98, 0.33)
        self.sizes, self.times, self.scores, self.text = map(self.live.figure.add_axes, boxes)
        self._shipped: dict[tuple[int, str], Measured] = {}
        self._clocks: dict[tuple[int, str, int], Clock | None] = {}

    def measure(self, dense: Baseline, settings: Settings) -> Iterator[Formats]:
        """The chosen format first, then the others, one after the other."""
        others = [name for name in FORMATS if name != settings.format]
        found = Formats(dense, settings, {})
        for name in [settings.format, *others]:
            found = replace(found, measured=found.measured | {name: self.one(dense, name, settings.batch)})
            yield found

    def one(self, dense: Baseline, name: str, batch: int) -> Measured:
        """One format: written and scored once, timed once for each batch."""
        key = id(dense), name
        if key not in self._shipped:
            try:
                shipped = FORMATS[name](dense.model, dense.data)
                self._shipped[key] = Measured(shipped, experiment.correct_of(shipped.run, dense.data.validation))
            except ValueError as error:
                self._shipped[key] = Measured(refused=str(error))
        known = self._shipped[key]
        if known.shipped is None:
            return known
        if (*key, batch) not in self._clocks:
            clock = known.shipped.clock or partial(experiment.milliseconds, known.shipped.run)
            self._clocks[*key, batch] = clock(dense.data.validation.x[:batch])
        return replace(known, clock=self._clocks[*key, batch])

    def still_for(self, result: Formats) -> Any:
        """The network."""
        return result.dense

    def background(self, result: Formats) -> None:
        """Empty bars and lines."""
        names = list(FORMATS)
        self.bars = [
            plots.format_bars(self.sizes, names, "file"),
            plots.format_bars(self.times, [""] * len(names), "milliseconds, median"),
            plots.format_bars(self.scores, [""] * len(names), "wrong images (validation)"),
        ]
        self.lines = plots.text_lines(self.text, LINES)
        moving = [artist for bars, texts in self.bars for artist in [*bars, *texts]]
        self.live.move([*moving, *self.lines])

    def update(self, result: Formats) -> None:
        """Set the bars; the chosen format is in another colour."""
        rows = [result.measured.get(name, Measured()) for name in FORMATS]
        there = [row.shipped is not None for row in rows]
        total = len(result.dense.data.validation)
        values: list[tuple[list[float], list[str]]] = [
            ([row.size_bytes for row in rows], [f"{row.size_bytes:,} B" for row in rows]),
            ([row.clock[1] if row.clock else 0 for row in rows], [told(row.clock) for row in rows]),
            ([(total - row.correct) * (row.shipped is not None) for row in rows],
             [f"{1 - row.correct / total:.2%}" for row in rows]),
        ]  # fmt: skip
        for (bars, texts), (numbers, texts_of) in zip(self.bars, values, strict=True):
            shown = [word if ok else "" for word, ok in zip(texts_of, there, strict=True)]
            plots.fill(bars, texts, numbers, shown)
            for bar, name in zip(bars, FORMATS, strict=True):
                bar.set_color(drawing.ORANGE if name == result.settings.format else drawing.BLUE)
        lines = self.first_lines(result.chosen)
        for text, line in zip(self.lines, [*lines, *[""] * LINES], strict=False):
            text.set_text(words.cut(line, 2 * LETTERS))

    def first_lines(self, chosen: Measured) -> list[str]:
        """How the file begins; the reason where there is none."""
        if chosen.shipped is None:
            return ["refused: " + chosen.refused]
        return experiment.first_lines(chosen.shipped.raw, chosen.shipped.file, LINES)

    def cards(self, result: Formats) -> list[Card]:
        """File, accuracy, milliseconds of the chosen format."""
        dense, chosen = result.dense, result.chosen
        if chosen.shipped is None:
            return [("refused", "–", words.cut(chosen.refused, 200))]
        images = len(dense.data.validation)
        low, high = wilson(chosen.correct, images)
        accuracy = (
            "accuracy",
            f"{chosen.correct / images:.2%}",
            f"95 %: {low:.1%}–{high:.1%} · dense {dense.score.accuracy:.2%}",
        )
        return [words.file_card(chosen.size_bytes, dense.size_bytes), accuracy, self.clock_card(result)]

    def clock_card(self, result: Formats) -> Card:
        """Milliseconds with their spread."""
        clock, batch = result.chosen.clock, result.settings.batch
        what = words.count(batch, "image")
        if clock is None:
            return f"milliseconds, {what}", "–", "no C compiler on this machine"
        return (
            f"milliseconds, {what}",
            told(clock),
            f"lowest {told((0, clock[0], 0))}, highest {told((0, clock[2], 0))}",
        )

    def summarize(self, result: Formats) -> Summary:
        """The chosen format in words."""
        cards, done = self.cards(result), len(result.measured)
        alt = words.sentence(words.setting(result.dense, result.settings, self), cards)
        status = f"{done} of {len(FORMATS)} formats written, scored on all validation images, and timed here"
        chosen = result.chosen
        title = chosen.refused and "refused" or f"{result.dense.size_bytes / chosen.size_bytes:.3g}× smaller than fp32"
        return Summary(cards, alt, status, title)

    def file(self, result: Formats) -> tuple[str, bytes]:
        """The file of the chosen format."""
        if result.chosen.shipped is None:
            raise ValueError(f"there is no file: {result.chosen.refused}")
        return result.chosen.shipped.file, result.chosen.shipped.raw

    def code(self, settings: Mapping[str, Any]) -> str:
        """Write the file."""
        made = [
            "from labkit.topics.ship_it.experiment import FORMATS",
            f'shipped = FORMATS["{settings["format"]}"](model, data)',
            "open(shipped.file, 'wb').write(shipped.raw)",
        ]
        return "\n".join([*self.loaded(settings), *made])


def told(clock: Clock | None) -> str:
    """The median in words."""
    return f"{clock[1]:.3g} ms" if clock else "–"


def ship_it(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 13: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(ShipIt, model, data, preset)
