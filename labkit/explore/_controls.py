"""The controls of the panels: ipywidgets with a label each and one width for all."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

WIDE, LABEL = "330px", "104px"


# ipywidgets echoes every move to the browser that made it, for the sake of others on the same kernel. Deserializing an
# echo takes the browser a core in the very milliseconds in which the network is scored.
class _Slider(widgets.FloatSlider):
    value = traitlets.CFloat(0.0).tag(sync=True, echo_update=False)

    @traitlets.validate("value")
    def _validate_value(self, proposal: dict[str, Any]) -> float:
        """A browser sends 0.9500000000000001 back for 0.95, which would be a move that nobody made."""
        return round(super()._validate_value(proposal), 10)


class _Steps(widgets.SelectionSlider):
    index = traitlets.Int(None, allow_none=True).tag(sync=True, echo_update=False)


def _style() -> dict[str, Any]:
    return {"style": {"description_width": LABEL}, "layout": widgets.Layout(width=WIDE)}


def share(label: str, value: float, high: float = 0.99, step: float = 0.01) -> widgets.FloatSlider:
    """A slider over [0, high], read in per cent."""
    form = ".1%" if step < 0.01 else ".0%"
    return _Slider(value, min=0, max=high, step=step, description=label, readout_format=form, **_style())


def steps(label: str, options: Sequence[tuple[str, Any]], value: Any) -> widgets.SelectionSlider:
    """A slider over listed values."""
    return _Steps(options=options, value=value, description=label, **_style())


def choice(label: str, options: Sequence[tuple[str, Any]] | Sequence[str], value: Any) -> widgets.Dropdown:
    """A menu."""
    return widgets.Dropdown(options=options, value=value, description=label, **_style())


def tick(label: str, value: bool) -> widgets.Checkbox:
    """A box to tick."""
    return widgets.Checkbox(value, description=label, indent=False, layout=widgets.Layout(width="auto"))


def bits(label: str = "bits", value: int = 4, floating: bool = True) -> widgets.SelectionSlider:
    """1 to 8 bits, and (floating) 32 for weights that are not rounded."""
    options = [(str(b), b) for b in range(1, 9)] + ([("32 (float)", 32)] if floating else [])
    return steps(label, options, value)


def real(label: str, value: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider over [0, high]."""
    return _Slider(value, min=0, max=high, step=step, description=label, readout_format=".3f", **_style())


def between(label: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider over [low, high]."""
    return _Slider(value, min=low, max=high, step=step, description=label, readout_format=".1f", **_style())


def layers(names: Sequence[str], everything: bool = True) -> widgets.Dropdown:
    """A menu of layers, with all of them first unless `everything` is false."""
    options = _layer_options(names, everything)
    return choice("layer", options, options[0][1])


def offer(menu: widgets.Dropdown, names: Sequence[str], everything: bool = True) -> None:
    """Let a menu of layers show those of another network."""
    menu.options = _layer_options(names, everything)


def _layer_options(names: Sequence[str], everything: bool) -> list[tuple[str, str]]:
    return [("all layers", "")] * everything + [(name.removesuffix(".weight"), name) for name in names]
