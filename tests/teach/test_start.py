"""The checks of notebook 00: the bytes of the kept weights, and settings that keep to a budget."""

import pytest

from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.measure import accuracy, size_bytes
from labkit.teach import check_budget, check_paper_bytes


def verdict(check, *arguments, **settings):
    answer = check(*arguments, **settings)
    return answer.passed, answer.message


# bytes on paper


@pytest.mark.parametrize(
    "right",
    [
        lambda weights, sparsity, bits: weights * (1 - sparsity) * bits / 8,
        lambda weights, sparsity, bits: (weights - weights * sparsity) * (bits / 8),
        lambda n, s, b: round(n * (1 - s)) * b / 8,
    ],
    ids=["as written", "rearranged", "whole weights"],
)
def test_a_right_answer_passes(right):
    passed, message = verdict(check_paper_bytes, right)
    assert passed
    assert message.startswith("many slides quote this number")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda weights, sparsity, bits: 0, "paper(266200, 0.0, 32) should be 1064800.0; yours is 0"),
        (lambda weights, sparsity, bits: None, "paper(266200, 0.0, 32) should be 1064800.0; yours is None"),
        (lambda weights, sparsity, bits: weights * bits, "should be 1064800.0; yours is 8518400"),
        (lambda weights, sparsity, bits: weights * bits / 8, "paper(266200, 0.9, 4) should be 13309"),
        (lambda weights, sparsity, bits: weights * sparsity * bits / 8, "should be 1064800.0; yours is 0.0"),
        (lambda weights, sparsity, bits: weights * (1 - sparsity) * 4 * (bits / 32 > 0), "paper(266200, 0.9, 4)"),
        (lambda weights, sparsity, bits: weights * (1 - sparsity) * bits // 8, "paper(266200, 0.9, 4)"),
    ],
    ids=["stub", "nothing", "in bits", "forgets sparsity", "keeps the zeros", "always 32 bits", "rounds down"],
)
def test_a_wrong_answer_is_told_the_first_difference(wrong, told):
    wrong.__name__ = "paper"
    passed, message = verdict(check_paper_bytes, wrong)
    assert not passed
    assert told in message


def test_an_answer_that_raises_is_told_so():
    def paper(weights, sparsity, bits):
        return weights / (bits - 4)

    assert "1/0" not in verdict(check_paper_bytes, lambda n, s, b: 1)[1]
    passed, message = verdict(check_paper_bytes, lambda n, s, b: n * (1 - s) * b / 8 if b != 4 else 1 // 0)
    assert not passed
    assert message.startswith("for <lambda>(266200, 0.9, 4) your function raised ZeroDivisionError: ")
    assert not check_paper_bytes(paper).passed


# the budget


def budget(trained, digits, sparsity, bits, max_bytes, max_loss):
    return verdict(check_budget, trained, digits, sparsity, bits, max_bytes=max_bytes, max_loss=max_loss)


@pytest.fixture(scope="module")
def small(trained, digits):
    """(bytes, accuracy lost on validation) of the digits network at half its weights and 8 bits, measured here."""
    model = quantize(prune(trained, 0.5), 8)
    lost = (accuracy(m, digits.validation)["accuracy"] for m in (trained, model))
    before, after = lost
    return size_bytes(model), before - after


def test_settings_within_both_budgets_pass(trained, digits, small):
    size, loss = small
    told = f"{size:,} bytes (allowed: {size:,}), {100 * loss:.2f} points lost (allowed: {100 * (loss + 0.001):g})"
    assert budget(trained, digits, 0.5, 8, size, loss + 0.001) == (True, told)


@pytest.mark.parametrize(("fewer_bytes", "less_loss"), [(1, 0), (0, 0.002), (1, 0.002)])
def test_one_byte_or_one_image_too_much_fails(trained, digits, small, fewer_bytes, less_loss):
    size, loss = small
    passed, message = budget(trained, digits, 0.5, 8, size - fewer_bytes, loss + 0.001 - less_loss)
    assert not passed
    assert message.startswith(f"{size:,} bytes (allowed: {size - fewer_bytes:,}), {100 * loss:.2f} points lost ")


def test_no_bits_left_out_is_the_float_network(trained, digits):
    passed, message = budget(trained, digits, 0.0, 32, size_bytes(trained), 0.0)
    assert passed
    assert message.endswith(f" bytes (allowed: {size_bytes(trained):,}), 0.00 points lost (allowed: 0)")


@pytest.mark.parametrize(
    ("sparsity", "bits", "said"),
    [
        (1.5, 4, "ValueError: sparsity is 1.5; allowed: a number in [0, 1)"),
        (0.5, 9, "ValueError: bits is 9; allowed: a whole number from 1 to 8"),
    ],
)
def test_settings_out_of_range_are_told(trained, digits, sparsity, bits, said):
    assert verdict(check_budget, trained, digits, sparsity, bits) == (False, f"this answer cannot be checked: {said}")
