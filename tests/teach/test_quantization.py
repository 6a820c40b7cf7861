"""The checks of notebook 02: a right answer passes, the stub and wrong answers are told what is wanted."""

import pytest
import torch

from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.quantize import quantize
from labkit.measure import accuracy
from labkit.teach import check_fake_quantize, check_scale, check_weakest_layer
from tests.teach.answers import named, verdict

CALL = "my_fake_quantize([-1.3125, -0.3125, 0.0625, 0.5625, 1.25], 0.25, 3)"


# the scale


@pytest.mark.parametrize(
    "right",
    [
        lambda x, bits: x.abs().max() / ((2**bits - 1) / 2),
        lambda x, bits: choose_grid(x, bits).scale,
        lambda x, bits: float(x.abs_().max()) * 2 / (2**bits - 1),
    ],
    ids=["formula", "labkit", "a float, and x spoiled"],
)
def test_a_right_scale_passes(right):
    assert check_scale(right).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda x, bits: 1.0, "my_scale([0.75, 0.125, 0.25], 2) should be 0.5; yours is 1.0"),
        (lambda x, bits: 2 * float(x.max()) / (2**bits - 1), "my_scale([0.5, -1.5, 0.25], 2) should be 1.0; yours is"),
        (lambda x, bits: float(x.abs().max()) / (2 ** (bits - 1) - 1), "should be 1.0; yours is 1.5"),
        (lambda x, bits: (2**bits - 1) / 2 / float(x.abs().max()), "my_scale([0.75, 0.125, 0.25], 2) should be 0.5;"),
        (lambda x, bits: None, "my_scale([0.5, -1.5, 0.25], 2) should be 1.0; yours is None"),
    ],
    ids=["stub", "forgets abs", "one level fewer", "the reciprocal", "nothing"],
)
def test_a_wrong_scale_is_told_what_is_wanted(wrong, told):
    passed, message = verdict(check_scale, named(wrong, "my_scale"))
    assert not passed
    assert told in message


def test_the_stub_of_the_scale_is_told_exactly():
    def my_scale(x, bits):
        return 1.0

    told = "my_scale([0.75, 0.125, 0.25], 2) should be 0.5; yours is 1.0"
    assert verdict(check_scale, my_scale) == (False, told)


def test_a_scale_that_raises_is_told_so():
    def my_scale(x, bits):
        return x.amax(dim=7)

    passed, message = verdict(check_scale, my_scale)
    assert not passed
    assert message.startswith("for my_scale([0.5, -1.5, 0.25], 2) your function raised IndexError: ")


# the round trip


def by_formula(x, scale, bits):
    return (x / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def by_torch(x, scale, bits):
    return torch.fake_quantize_per_tensor_affine(x, scale, 0, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("right", [by_formula, by_torch], ids=["formula", "torch"])
def test_a_right_round_trip_passes(right):
    assert check_fake_quantize(right).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            lambda x, scale, bits: x,
            "should be [-1.0, -0.25, 0.0, 0.5, 0.75]; yours is [-1.3125, -0.3125, 0.0625, 0.5625, 1.25]",
        ),
        (
            lambda x, scale, bits: (x / scale).round() * scale,
            "should be [-1.0, -0.25, 0.0, 0.5, 0.75]; yours is [-1.25, -0.25, 0.0, 0.5, 1.25]",
        ),
        (
            lambda x, scale, bits: (x / scale).round().clamp(-4, 3),
            "should be [-1.0, -0.25, 0.0, 0.5, 0.75]; yours is [-4.0, -1.0, 0.0, 2.0, 3.0]",
        ),
        (lambda x, scale, bits: x[:2], "should have the shape (5,) of x; yours has (2,)"),
        (lambda x, scale, bits: x.tolist(), "should be a tensor; yours is a list"),
    ],
    ids=["stub", "no clamp", "integers", "wrong shape", "a list"],
)
def test_a_wrong_round_trip_is_told_what_is_wanted(wrong, told):
    assert verdict(check_fake_quantize, named(wrong, "my_fake_quantize")) == (False, f"{CALL} {told}")


def test_a_round_trip_that_knows_one_width_only_fails():
    passed, message = verdict(check_fake_quantize, lambda x, scale, bits: by_formula(x, scale, 3))
    assert not passed
    assert "should be [[0.5, -4.0], [2.0, -0.5]]; yours is [[0.5, -2.0], [1.5, -0.5]]" in message


def test_a_round_trip_that_raises_is_told_so():
    def my_fake_quantize(x, scale, bits):
        raise KeyError("levels")

    told = f"for {CALL} your function raised KeyError: 'levels'"
    assert verdict(check_fake_quantize, my_fake_quantize) == (False, told)


def test_the_specification_agrees_with_labkit():
    x = torch.tensor([0.7, -0.4, 0.11, -0.02])
    grid = choose_grid(x, 4)
    assert torch.equal(fake_quantize(x, grid), by_torch(x, float(grid.scale), 4))


# the weakest layer


@pytest.fixture
def left(trained, digits):
    """The accuracy that stays when one layer of the small network is rounded to 1 bit."""
    return {n: accuracy(quantize(trained, 1, layers=[n]), digits.validation)["accuracy"] for n in ("1", "3")}


def test_the_weakest_layer_passes_under_both_its_names(trained, digits, left):
    weakest = min(left, key=left.get)
    told = ", ".join(f"{n} {left[n]:.2%}" for n in sorted(left, key=left.get))
    expected = (True, f"with 1-bit weights in one layer, accuracy left: {told}")
    assert verdict(check_weakest_layer, trained, digits.validation, weakest, 1) == expected
    assert verdict(check_weakest_layer, trained, digits.validation, f"{weakest}.weight", 1) == expected


def test_another_layer_fails(trained, digits, left):
    other = max(left, key=left.get)
    told = f"1-bit weights in another layer cost more than in {other}, which leave {left[other]:.2%}"
    assert verdict(check_weakest_layer, trained, digits.validation, other, 1) == (False, told)


@pytest.mark.parametrize(
    ("answer", "shown"), [("", "''"), ("fc9", "'fc9'"), (None, "'None'")], ids=["stub", "unknown", "nothing"]
)
def test_an_answer_that_is_no_layer_is_told_the_layers(trained, digits, answer, shown):
    told = f"the layer should be one of 1, 3; yours is {shown}"
    assert verdict(check_weakest_layer, trained, digits.validation, answer) == (False, told)
