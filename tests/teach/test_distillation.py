"""The checks of notebooks 03 and 03b: a right answer passes, the stub and wrong answers are told what is wanted."""

import pytest
import torch
import torch.nn.functional as F

from labkit import losses
from labkit.compress.distill import best_offset, teacher_outputs
from labkit.teach import check_distillation_loss, check_offset, check_soften
from tests.teach.answers import named, verdict

# softening


def test_the_softmax_of_divided_logits_passes():
    assert check_soften(lambda z, temperature: (z / temperature).softmax(0)).passed
    assert check_soften(lambda z, temperature: (z / temperature).softmax(0).tolist()).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda z, t: torch.softmax(z * t, 0), "([2.0, -1.0, 0.5], 4.0) should be [0.463, 0.2187, 0.3182]; "),
        (lambda z, t: torch.softmax(z, 0) / t, "([2.0, -1.0, 0.5], 4.0) should be [0.463, 0.2187, 0.3182]; "),
        (lambda z, t: torch.softmax(z, 0), "([2.0, -1.0, 0.5], 4.0) should be [0.463, 0.2187, 0.3182]; "),
        (lambda z, t: z / t, "([2.0, -1.0, 0.5], 1.0) should be [0.7856, 0.0391, 0.1753]; yours is [2.0, -1.0, 0.5]"),
        (lambda z, t: [], "([2.0, -1.0, 0.5], 1.0) should be [0.7856, 0.0391, 0.1753]; yours is []"),
    ],
    ids=["times T", "after the softmax", "stub", "no softmax", "empty"],
)
def test_a_wrong_softening_is_told_what_is_wanted(wrong, told):
    passed, message = verdict(check_soften, named(wrong, "my_soften"))
    assert not passed
    assert message.startswith(f"my_soften{told}")


def test_a_softening_that_raises_or_returns_nothing_is_told_so():
    passed, message = verdict(check_soften, named(lambda z, t: z[99], "my_soften"))
    assert not passed
    assert message.startswith("for my_soften([2.0, -1.0, 0.5], 1.0) your function raised IndexError: ")
    assert "your function raised RuntimeError: " in check_soften(lambda z, t: None).message
    assert "should be [0.7856, 0.0391, 0.1753]; yours is [0.5]" in check_soften(lambda z, t: 0.5).message


# the loss


def in_torch(student, teacher, y, temperature, alpha, factor=None):
    divergence = F.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
    )
    factor = temperature**2 if factor is None else factor
    return alpha * factor * divergence + (1 - alpha) * F.cross_entropy(student, y)


@pytest.mark.parametrize("right", [in_torch, losses.mixed_loss], ids=["in torch", "labkit's"])
def test_the_mixed_loss_passes(right):
    assert check_distillation_loss(right).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda z, v, y, t, a: in_torch(z, v, y, t, a, factor=1), "; the factor T² is missing"),
        (lambda z, v, y, t, a: in_torch(z, v, y, t, 1 - a), "; α is the weight of the teacher, not of the labels"),
        (
            lambda z, v, y, t, a: a * in_torch(v, z, y, t, 1.0) + (1 - a) * F.cross_entropy(z, y),
            "; the teacher comes first in the divergence: KL(teacher ‖ student)",
        ),
        (lambda z, v, y, t, a: in_torch(z, v, y, t, a, factor=t), ""),
        (lambda z, v, y, t, a: F.cross_entropy(z, y), ""),
    ],
    ids=["no factor", "swapped α", "swapped divergence", "T", "stub"],
)
def test_a_wrong_loss_is_told_what_is_wanted(wrong, told):
    passed, message = verdict(check_distillation_loss, named(wrong, "my_loss"))
    assert not passed
    assert message.startswith("my_loss([[")
    assert "should be" in message
    assert message.endswith(told)
    assert ("; " in message.partition("yours is")[2]) == bool(told)


def test_a_loss_that_raises_is_told_so():
    def my_loss(student, teacher, y, temperature, alpha):
        raise KeyError("T")

    assert "your function raised KeyError: 'T'" in check_distillation_loss(my_loss).message


# the offset


@pytest.fixture(scope="module")
def low(trained, digits):
    """Logits of a network whose class 3 has too low a bias, with the truth."""
    logits = teacher_outputs(trained, digits.validation.x)
    logits[:, 3] -= 4.1
    return logits, digits.validation.y


def test_the_best_offset_passes(low):
    def my_offset(logits, y, label):
        return best_offset(logits, y, label, torch.arange(0, 12, 0.25))

    passed, message = verdict(check_offset, *low, 3, my_offset)
    assert passed
    assert message.startswith("with ")
    assert message.endswith(" of 300 images are correct")


def test_no_offset_is_told_how_many_could_be_right(low):
    passed, message = verdict(check_offset, *low, 3, named(lambda logits, y, label: 0.0, "my_offset"))
    right = int((low[0].argmax(1) == low[1]).sum())
    assert not passed
    assert message.startswith(f"my_offset(logits, y, 3): with 0 added, {right} of 300 images are correct; another")


def test_too_much_is_not_right_either(low):
    assert not check_offset(*low, 3, lambda logits, y, label: 25.0).passed


def test_an_offset_that_raises_is_told_so_and_the_logits_are_safe(low):
    before = low[0].clone()
    assert "raised TypeError" in check_offset(*low, 3, lambda logits, y, label: None).message
    check_offset(*low, 3, lambda logits, y, label: float(logits.zero_().sum()))
    assert low[0].equal(before)
