"""The checks of notebook 01: a right answer passes, the stub and wrong answers are told what is wanted."""

import pytest
import torch

from labkit.compress.magnitude import cubic_sparsity, keep_mask, prune
from labkit.measure import accuracy
from labkit.teach import check_cubic_sparsity, check_mask, check_sensitivity
from tests.teach.answers import named, verdict

FIRST = "([0.5, -0.125, -3.0, 0.25], 0.25)"


# the mask


def sorted_mask(weight, sparsity):
    order = weight.abs().flatten().argsort()
    mask = torch.ones(weight.numel())
    mask[order[: round(sparsity * weight.numel())]] = 0
    return mask.view_as(weight)


@pytest.mark.parametrize(
    "right", [sorted_mask, lambda weight, sparsity: keep_mask(weight.abs(), sparsity)], ids=["floats", "booleans"]
)
def test_a_right_mask_passes(right):
    assert check_mask(right).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda weight, sparsity: torch.ones_like(weight), "should drop 1 of 4 weights; yours drops 0"),
        (lambda weight, sparsity: keep_mask(weight, sparsity), "keeps -0.125 and drops -3, whose magnitude is larger"),
        (lambda weight, sparsity: 1 - sorted_mask(weight, sparsity), "should drop 1 of 4 weights; yours drops 3"),
        (lambda weight, sparsity: torch.ones(2), "should have the shape (4,) of the weight; yours has (2,)"),
        (lambda weight, sparsity: None, "should be a tensor; yours is a NoneType"),
        (lambda weight, sparsity: weight, "should hold only True and False, or 1 and 0"),
    ],
    ids=["stub", "forgets abs", "upside down", "wrong shape", "nothing", "not a mask"],
)
def test_a_wrong_mask_is_told_what_is_wanted(wrong, told):
    assert verdict(check_mask, named(wrong, "my_mask")) == (False, f"my_mask{FIRST} {told}")


def test_a_mask_that_is_right_for_a_vector_only_fails():
    def my_mask(weight, sparsity):
        return sorted_mask(weight, sparsity) if weight.ndim == 1 else torch.ones_like(weight)

    assert "should drop 2 of 8 weights; yours drops 0" in check_mask(my_mask).message


def test_a_mask_that_raises_is_told_so():
    def my_mask(weight, sparsity):
        return weight[99]

    passed, message = verdict(check_mask, my_mask)
    assert not passed
    assert message.startswith(f"for my_mask{FIRST} your function raised IndexError: ")


def test_the_students_function_cannot_spoil_the_weights():
    def my_mask(weight, sparsity):
        return sorted_mask(weight.abs_(), sparsity)

    assert check_mask(my_mask).passed


# the sensitivity scan


def scan(model, split, sparsity):
    left = {n: accuracy(prune(model, sparsity, layers=[n]), split)["accuracy"] for n in ("1", "3")}
    return min(left, key=left.get)


def other(model, split, sparsity):
    return {"1": "3", "3": "1"}[scan(model, split, sparsity)]


def test_a_layer_may_be_named_by_its_weight(trained, digits):
    assert check_sensitivity(trained, digits.validation, lambda *setting: scan(*setting) + ".weight").passed


def test_the_scan_passes_and_names_every_layer(trained, digits):
    passed, message = verdict(check_sensitivity, trained, digits.validation, scan)
    assert passed
    assert message.startswith("with 95% of one layer pruned, accuracy left: ")
    assert {part.split()[0] for part in message.rpartition("left: ")[2].split(", ")} == {"1", "3"}


def test_the_layer_that_costs_less_fails(trained, digits):
    worse = other(trained, digits.validation, 0.9)
    left = accuracy(prune(trained, 0.9, layers=[worse]), digits.validation)["accuracy"]
    wanted = f"pruning another layer costs more than pruning {worse}, which leaves {left:.2%}"
    assert verdict(check_sensitivity, trained, digits.validation, other) == (
        False,
        f"other(model, split, 0.9): {wanted}",
    )


def test_the_stub_and_an_unknown_layer_are_told_the_layers(trained, digits):
    def my_scan(model, split, sparsity):
        return ""

    told = "my_scan(model, split, 0.9) should be one of 1, 3; yours is ''"
    assert verdict(check_sensitivity, trained, digits.validation, my_scan) == (False, told)


def test_a_scan_that_raises_is_told_so(trained, digits):
    def my_scan(model, split, sparsity):
        raise KeyError("fc9")

    told = "for my_scan(model, split, 0.9) your function raised KeyError: 'fc9'"
    assert verdict(check_sensitivity, trained, digits.validation, my_scan) == (False, told)


# the schedule


def test_the_cubic_schedule_passes():
    assert check_cubic_sparsity(cubic_sparsity).passed
    assert check_cubic_sparsity(lambda t, s_i, s_f: s_i + (s_f - s_i) * (1 - (1 - t) ** 3)).passed


def test_the_stub_is_told_where_the_schedule_starts():
    def my_sparsity(progress, initial_sparsity, final_sparsity):
        return final_sparsity

    assert verdict(check_cubic_sparsity, my_sparsity) == (
        False,
        "my_sparsity(0.0, 0.0, 0.9) should be 0.0; yours is 0.9",
    )


def test_a_straight_line_fails():
    def my_sparsity(progress, initial_sparsity, final_sparsity):
        return initial_sparsity + (final_sparsity - initial_sparsity) * progress

    assert verdict(check_cubic_sparsity, my_sparsity) == (
        False,
        "my_sparsity(0.5, 0.0, 0.5) should be 0.4375; yours is 0.25",
    )


def test_a_schedule_that_raises_is_told_so():
    def my_sparsity(progress, initial_sparsity, final_sparsity):
        return 1 / progress

    told = "for my_sparsity(0.0, 0.0, 0.9) your function raised ZeroDivisionError: float division by zero"
    assert verdict(check_cubic_sparsity, my_sparsity) == (False, told)
