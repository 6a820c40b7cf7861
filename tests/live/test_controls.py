"""The controls: what is typed is read as a person means it, or refused in a sentence; a dataclass declares them."""

from dataclasses import dataclass

import pytest

from labkit.live.controls import Control, bits, choice, controls_of, layer_menu, real, sentence_of, share, steps, tick


@dataclass(frozen=True)
class Settings:
    sparsity: float = share("sparsity", 0.8, note="share of zeros", word="{} pruned")
    bits: int = bits(value=5)
    lr: float = steps("learning rate", [("1e-3", 1e-3), ("0.01", 0.01)], 0.01)
    theta: float = real("θ", 0.05, 0.3, 0.002)
    scope: str = choice("scope", [("all at once", "global"), "layer"], "global")
    layer: str = layer_menu()
    nesterov: bool = tick("Nesterov", False)


@pytest.fixture
def made():
    return controls_of(Settings)


def test_a_dataclass_declares_controls_with_its_defaults(made):
    assert list(made) == ["sparsity", "bits", "lr", "theta", "scope", "layer", "nesterov"]
    assert Settings(**{name: control.value for name, control in made.items()}) == Settings()
    kinds = [control.kind for control in made.values()]
    assert kinds == ["slider", "slider", "slider", "slider", "menu", "menu", "tick"]
    assert made["sparsity"].help == "share of zeros"
    assert len(made["sparsity"].stops) == 100
    assert made["sparsity"].stops[7] == ("7 %", 0.07)


@pytest.mark.parametrize(
    ("typed", "value"),
    [("87%", 0.87), ("87", 0.87), ("87 %", 0.87), ("93,5%", 0.935), ("93.5", 0.935), ("0.87", 0.87), ("1%", 0.01)],
)
def test_a_share_that_is_typed_is_read_in_per_cent(made, typed, value):
    made["sparsity"].take(typed)
    assert made["sparsity"].value == pytest.approx(value)


@pytest.mark.parametrize("typed", ["100%", "99.5", "-3", "−3 %", "many", "", "8 7"])
def test_a_share_that_cannot_be_is_refused_and_nothing_moves(made, typed):
    with pytest.raises(ValueError, match="sparsity: .*allowed: 0 % to 99 %"):
        made["sparsity"].take(typed)
    assert made["sparsity"].value == 0.8


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [("bits", "3", 3), ("bits", "32", 32), ("bits", "32 (float)", 32), ("lr", "0.001", 1e-3), ("lr", "1e-3", 1e-3),
     ("lr", "0,01", 0.01), ("theta", "0.0713", 0.0713), ("scope", "layer", "layer"), ("scope", "ALL AT ONCE", "global"),
     ("nesterov", "yes", True)],
)  # fmt: skip
def test_what_is_typed_is_a_stop_by_its_text_or_its_number(made, name, typed, value):
    made[name].take(typed)
    assert made[name].value == value
    assert type(made[name].value) is type(value)


@pytest.mark.parametrize(("name", "typed"), [("bits", "9"), ("bits", "4.5"), ("lr", "0.02"), ("scope", "some")])
def test_what_is_not_on_offer_is_refused(made, name, typed):
    before = made[name].value
    with pytest.raises(ValueError, match="allowed: "):
        made[name].take(typed)
    assert made[name].value == before


@pytest.mark.parametrize("value", [1.0, -0.1, "0.5", None, True])
def test_a_value_that_is_set_is_checked_too(made, value):
    with pytest.raises(ValueError, match="sparsity is .*; allowed: 0 % to 99 %"):
        made["sparsity"].value = value
    assert made["sparsity"].value == 0.8


def test_a_value_between_two_stops_stands_at_the_nearest(made):
    made["sparsity"].value = 0.934
    assert (made["sparsity"].index, made["sparsity"].text) == (93, "93.4 %")


def test_other_stops_keep_the_value_where_they_can():
    menu = Control("menu", "layer", [("a", "a"), ("b", "b")], "b")
    seen = []
    menu.observe(lambda change: seen.append(change["new"]), "value")
    menu.offer([("b", "b"), ("c", "c")])
    assert (menu.value, seen) == ("b", [])
    menu.offer([("c", "c"), ("d", "d")])
    assert (menu.value, seen) == ("c", ["c"])
    menu.offer([("x", "x"), ("y", "y")], "y")
    assert menu.value == "y"


def test_settings_in_words_leave_out_what_changes_nothing():
    settings = Settings(sparsity=0.9, bits=32, layer="fc1.weight")
    words = sentence_of(settings, without={"theta", "lr"})
    assert words == "90 % pruned, bits 32 (float), scope all at once, layer fc1, Nesterov no"
