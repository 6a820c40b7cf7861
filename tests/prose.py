"""Figures in the prose of a notebook, and the numbers they are held to: outputs of their section, settings in code.

A figure is a number that a reader could check: one with a decimal point, a thousands comma or a unit, or from 11 up.
Formulas, code, names (LeNet-300-100, 784-32-10), citations (2015, arXiv), sections, the minutes at the top of a
notebook and the list of sources are none.
"""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

NOT_FIGURES = re.compile(
    r"""```.*?``` | \$\$.*?\$\$ | \$[^$\n]*\$ | `[^`\n]*`        # code and formulas
    | \]\([^)\n]*\) | arXiv:\S+ | 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+              # links, papers, powers of ten
    | (?<![\d.,])(?:19|20)\d\d\b(?![,.]\d|\s*%)                  # years
    | \b(?i:sections?|tables?|figures?|notebooks?|exercises?|equations?|appendix|chapters?)
      \ \d[\d.]*[a-z]?(?:(?:,|\ and|\ to)\ \d[\d.]*[a-z]?)* | \(\d\.\d(?:,\ \d\.\d)*\)
    | ^\s*(?:\#+\ [^\n]*|\*\*\d\.|\d\.\ ) | (?<![\d.,])0\d[bc]?\b # titles, numbered lists, notebook 01
    | \b95\ %(?=\ (?:by|interval|confidence)|:)                  # what every interval here is
    | ^\*About\ \d+\ minutes                                    # how long a notebook takes to work through
    | \d*[A-Za-z_Α-ω]+[\w-]*\d[\w.-]* | \d+(?:[-×·]\d+)+ | \d+\ ×\ \d+ | \d[\d,.]*-?[a-zA-Z]\w*  # names, shapes""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
UNIT = r"\s*(%|per cent|points?\b|KB\b|MB\b|ms\b|s\b|times\b|×|bytes\b|B\b)"
LIST = r"\s*(?:to|and|or|against|instead of|of|–|,|→|±)\s*[-−+]?"
FIGURE = re.compile(rf"(?<![\w.])({NUMBER})(?!\w|[.,]\d)(?=((?:{LIST}(?:{NUMBER}))*{UNIT})?)")
OUTPUT = re.compile(rf"(?<![\w.])(?:{NUMBER})(?:e[-+]?\d+)?")
THOUSANDS = {"KB": 1e3, "MB": 1e6}


@dataclass(frozen=True)
class Figure:
    """A number of the prose: as it is written, its value, half a unit of its last digit, what it counts, and where."""

    text: str
    value: float
    within: float
    unit: str
    start: int

    def near(self, value: float) -> bool:
        """Whether `value`, rounded as the prose rounds, may give this figure."""
        return abs(value - self.value) <= self.within * 1.0001

    @property
    def share(self) -> bool:
        """Whether it may be a fraction of an output, quoted in per cent."""
        return self.unit in ("%", "per cent", "point", "points")


def figures(markdown: str) -> list[Figure]:
    """The figures of a markdown cell, in reading order."""
    prose = NOT_FIGURES.sub(lambda gone: " " * len(gone[0]), markdown.split("## Sources")[0])
    found = []
    for match in FIGURE.finditer(prose):
        text, unit = match[1], match[3] or ""
        if unit or "." in text or "," in text or float(text) > 10:
            within = 0.5 * 10 ** -len(text.partition(".")[2])
            found.append(Figure(text, float(text.replace(",", "")), within, unit, match.start()))
    return found


@dataclass(frozen=True)
class Notebook:
    """Its sections, from one "## " heading to the next: prose and the numbers of the outputs; and those of all code."""

    sections: list[tuple[str, set[float]]]
    settings: set[float]

    @property
    def outputs(self) -> set[float]:
        """The numbers of all outputs."""
        return set().union(*(numbers for _, numbers in self.sections))


def read(path: Path) -> Notebook:
    """A notebook as its prose and its numbers; the prose of a section is that of its markdown cells, joined."""
    sections: list[tuple[list[str], set[float]]] = [([], set())]
    settings: set[float] = set()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            settings |= constants(cell.source)
            sections[-1][1].update(*map(in_output, cell.outputs))
        elif cell.source.startswith("## "):
            sections.append(([cell.source], set()))
        else:
            sections[-1][0].append(cell.source)
    return Notebook([("\n\n".join(texts), numbers) for texts, numbers in sections], settings)


def constants(code: str) -> set[float]:
    """The numbers that Python code writes out."""
    nodes = ast.walk(ast.parse(code))
    return {float(n.value) for n in nodes if isinstance(n, ast.Constant) and type(n.value) in (int, float)}


def in_output(output: dict[str, Any]) -> set[float]:
    """The numbers in what a cell printed or returned, as text or as a table, without their signs."""
    data = output.get("data", {})
    texts = [output.get("text", ""), data.get("text/plain", ""), re.sub("<[^>]*>", " ", data.get("text/html", ""))]
    return {float(number.replace(",", "")) for text in texts for number in OUTPUT.findall(text)}


def traced(figure: Figure, outputs: Iterable[float], settings: set[float]) -> bool:
    """Whether a figure is one of `outputs`, rounded, or of `settings`; a fraction may be in per cent, bytes in KB."""
    if figure.value in settings or figure.share and any(figure.value == round(100 * s, 9) for s in settings):
        return True
    scale = THOUSANDS.get(figure.unit, 1)
    return any(figure.near(v / scale) or figure.share and v <= 1 and figure.near(100 * v) for v in outputs)


def evaluate(expression: str, known: set[float]) -> float:
    """Arithmetic with numbers, each of which has to be `known`, or 1, 8 or 100; KeyError if not."""
    if unknown := constants(expression) - known - {1.0, 8.0, 100.0}:
        raise KeyError(f"{sorted(unknown)} in {expression!r}")
    return abs(float(eval(expression, {"__builtins__": {}})))  # noqa: S307
