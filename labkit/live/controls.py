"""The controls of a panel as plain data with a value: what they offer, how a value reads, how a typed one is taken.

A control has no widget of its own: the panel's one widget shows them all. Its `value` can be set and observed.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import traitlets

TYPED = re.compile(r"\s*([-+−]?[\d.,]+(?:[eE][-+−]?\d+)?)\s*(%?)\s*(?:\(.*\)\s*)?")  # then a note in brackets


class Control(traitlets.HasTraits):
    """A setting that can be moved: `stops` are its (text, value) pairs, `form` reads a number that lies between them.

    `kind` is "slider", "menu" or "tick". A slider with a `form` takes any number between its ends when it is typed.
    """

    value: Any = traitlets.TraitType()  # anything but None
    stops: traitlets.List[Any] = traitlets.List()
    disabled = traitlets.Bool(False)

    def __init__(self, kind: str, label: str, stops: Sequence[Any], value: Any, form: str = "", note: str = "") -> None:
        self.kind, self.label, self.form, self.help = kind, label, form, note  # validation of the value reads them
        super().__init__(stops=pairs(stops), value=value)

    @traitlets.validate("value")
    def _allowed(self, proposal: dict[str, Any]) -> Any:
        value = proposal["value"]
        if self.form:
            low, high = self.stops[0][1], self.stops[-1][1]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{self.label} is {value!r}; allowed: {self.read(low)} to {self.read(high)}")
            return round(float(value), 10)
        for _, known in self.stops:
            if known == value:
                return known
        raise ValueError(f"{self.label} is {value!r}; allowed: {', '.join(text for text, _ in self.stops)}")

    @traitlets.validate("stops")
    def _pairs(self, proposal: dict[str, Any]) -> list[tuple[str, Any]]:
        return pairs(proposal["value"])

    @property
    def values(self) -> list[Any]:
        """What it offers."""
        return [value for _, value in self.stops]

    @property
    def index(self) -> int:
        """The stop it stands at, or nearest to."""
        return self.index_of(self.value)

    @property
    def text(self) -> str:
        """Its value in words."""
        return self.text_of(self.value)

    def index_of(self, value: Any) -> int:
        """The stop of a value, or the one nearest to it."""
        if self.form:
            return int(np.abs(np.array(self.values) - value).argmin())
        return self.values.index(value)

    def text_of(self, value: Any) -> str:
        """A value in words."""
        return self.read(value) if self.form else str(self.stops[self.index_of(value)][0])

    def read(self, number: float) -> str:
        """A number of this control in words: 93.5 % of a share, 0.052 of others."""
        return read(number, self.form)

    def offer(self, stops: Sequence[Any], value: Any = None) -> None:
        """Offer other stops, and stand at `value`, else where it stood if that is still on offer, else at the first."""
        new = pairs(stops)
        values = [one for _, one in new]
        wanted = value if value is not None else self.value
        with self.hold_trait_notifications():
            self.stops, self.value = new, wanted if wanted in values else values[0]

    def take(self, typed: str) -> None:
        """Set the value from what a person has typed: a stop's own text, or a number, with % or a comma if they like.

        ValueError if it is neither.
        """
        wanted = typed.strip().lower()
        for text, value in self.stops:
            if str(text).lower() == wanted:
                self.value = value
                return
        match = TYPED.fullmatch(typed)
        if not match:
            raise ValueError(f"{self.label}: {typed!r} cannot be read; allowed: {self._range()}")
        number = float(match[1].replace(",", ".").replace("−", "-"))
        if self.form.endswith("%") and (match[2] or number > 1):
            number /= 100
        if self.form:
            if not self.stops[0][1] <= number <= self.stops[-1][1]:
                raise ValueError(f"{self.label}: {typed.strip()} is out of range; allowed: {self._range()}")
            self.value = number
            return
        for _, value in self.stops:
            if isinstance(value, int | float) and math.isclose(value, number):
                self.value = value
                return
        raise ValueError(f"{self.label}: {typed.strip()} is not on offer; allowed: {self._range()}")

    def _range(self) -> str:
        if self.form:
            return f"{self.read(self.stops[0][1])} to {self.read(self.stops[-1][1])}"
        return ", ".join(str(text) for text, _ in self.stops)


def read(number: float, form: str) -> str:
    """A number in words: 93.5 % for a form that ends with %, else as the form has it."""
    return f"{100 * number:.4g} %" if form.endswith("%") else f"{number:{form}}"


def pairs(stops: Sequence[Any]) -> list[tuple[str, Any]]:
    """(text, value) of every stop; a text alone is its own value."""
    return [(stop, stop) if isinstance(stop, str) else (str(stop[0]), stop[1]) for stop in stops]


# A view declares its settings as a dataclass of these fields: one line is the control, the argument, the word of the
# alt text and, by its name, of the line of code. `word` holds {} where the value reads.


def _declared(kind: str, label: str, stops: Sequence[Any], value: Any, form: str, note: str, word: str) -> Any:
    about = dict(kind=kind, label=label, stops=pairs(stops), form=form, note=note, word=word or label + " {}")
    return dataclasses.field(default=value, metadata={"about": about})


def _grid(low: float, high: float, step: float, form: str) -> list[tuple[str, float]]:
    numbers = [round(low + i * step, 10) for i in range(round((high - low) / step) + 1)]
    return [(read(number, form), number) for number in numbers]


def share(
    label: str, value: float, high: float = 0.99, step: float = 0.01, *, note: str = "", word: str = ""
) -> Any:  # fmt: skip
    """A slider over [0, high], read in per cent."""
    return _declared("slider", label, _grid(0, high, step, ".0%"), value, ".0%", note, word)


def steps(label: str, options: Sequence[tuple[str, Any]], value: Any, *, note: str = "", word: str = "") -> Any:
    """A slider over listed values."""
    return _declared("slider", label, options, value, "", note, word)


def choice(label: str, options: Sequence[Any], value: Any, *, note: str = "", word: str = "") -> Any:
    """A menu."""
    return _declared("menu", label, options, value, "", note, word)


def tick(label: str, value: bool, *, note: str = "", word: str = "") -> Any:
    """A box to tick."""
    return _declared("tick", label, [("no", False), ("yes", True)], value, "", note, word)


def bits(label: str = "bits", value: int = 4, floating: bool = True, *, note: str = "", word: str = "") -> Any:
    """1 to 8 bits, and (floating) 32 for weights that are not rounded."""
    options = [(str(b), b) for b in range(1, 9)] + ([("32 (float)", 32)] if floating else [])
    return steps(label, options, value, note=note, word=word)


def real(
    label: str, value: float, high: float, step: float, low: float = 0, *, note: str = "", word: str = ""
) -> Any:  # fmt: skip
    """A slider over [low, high]."""
    form = ".3f" if step < 0.01 else ".2f" if step < 0.1 else ".1f"
    return _declared("slider", label, _grid(low, high, step, form), value, form, note, word)


def layer_menu(everything: bool = True, *, note: str = "", word: str = "") -> Any:
    """A menu of the layers of the network in use, with all of them first unless `everything` is false."""
    about = dict(kind="menu", label="layer", stops=[("all layers", "")], form="", note=note, word=word or "layer {}")
    return dataclasses.field(default="", metadata={"about": about | {"everything": everything}})


def controls_of(settings: type) -> dict[str, Control]:
    """The controls that a dataclass of settings declares, by the names of its fields."""
    made = {}
    for field in dataclasses.fields(settings):
        about = field.metadata["about"]
        made[field.name] = Control(
            about["kind"], about["label"], about["stops"], field.default, about["form"], about["note"]
        )
    return made


def sentence_of(settings: Any, without: Collection[str] = ()) -> str:
    """Settings in words, those `without` left out: "90 % of the weights pruned, bits 4"."""
    words = []
    for field in dataclasses.fields(settings):
        about, value = field.metadata["about"], getattr(settings, field.name)
        if field.name not in without:
            known = next((text for text, one in about["stops"] if one == value), None)
            text = known or (read(value, about["form"]) if about["form"] else str(value).removesuffix(".weight"))
            words.append(about["word"].format(text))
    return ", ".join(words)


def layer_options(names: Sequence[str], everything: bool = True) -> list[tuple[str, str]]:
    """The entries of a menu of layers."""
    return [("all layers", "")] * everything + [(name.removesuffix(".weight"), name) for name in names]
