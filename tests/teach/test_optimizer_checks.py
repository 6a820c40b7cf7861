"""The checks of notebook 08: a right answer passes, stubs and wrong answers are told what is wanted."""

import pytest
import torch

from labkit.surfaces import paths, walker
from labkit.teach import check_adam_step, check_momentum_limit, check_valley
from labkit.topics.optimizers.checks import momentum_limit


def adam_step(w, g, m, s, t, lr):
    m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
    return w - lr * (m / (1 - 0.9**t)) / ((s / (1 - 0.999**t)).sqrt() + 1e-8), m, s


def uncorrected(w, g, m, s, t, lr):
    m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
    return w - lr * m / (s.sqrt() + 1e-8), m, s


def forgets(w, g, m, s, t, lr):
    return adam_step(w, g, m, s, t, lr)[0], m, s


def in_place(w, g, m, s, t, lr):
    new = adam_step(w, g, m, s, t, lr)
    for part in (w, g, m, s):
        part.zero_()
    return new


def test_a_right_step_passes_even_if_it_spoils_what_it_was_given():
    assert check_adam_step(adam_step).passed
    assert check_adam_step(in_place).passed


FIRST = "step 1, g = [0.5, -2.0]: "


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda w, g, m, s, t, lr: (w - lr * g, m, s), "should give w = [0.9, -0.9]; yours is [0.95, -0.8]"),
        (uncorrected, "should give w = [0.9, -0.9]; yours is [0.6838, -0.6838]"),
        (lambda w, g, m, s, t, lr: w, "should return three tensors, (w, m, s)"),
        (lambda w, g, m, s, t, lr: (w.sum(), m, s), "should return w of shape (2,); yours has ()"),
        (lambda w, g, m, s, t, lr: w[9], "raised IndexError"),
    ],
    ids=["stub", "no correction", "only w", "wrong shape", "raises"],
)
def test_a_wrong_step_is_told_what_is_wanted(wrong, told):
    wrong.__name__ = "my_adam"
    verdict = check_adam_step(wrong)
    assert not verdict.passed
    assert verdict.message.startswith(f"{FIRST}my_adam {told}")


def test_a_step_that_forgets_its_means_is_found_at_the_second_step():
    assert check_adam_step(forgets).message.startswith("step 2, g = [0.25, 0.0]: forgets should give w = ")


def test_the_limit_of_momentum():
    assert check_momentum_limit(lambda curvature, momentum: 2 * (1 + momentum) / curvature).passed

    def my_limit(curvature, momentum):
        return 2 / curvature

    told = check_momentum_limit(my_limit)
    assert (told.passed, told.message) == (False, "my_limit(20.0, 0.9) should be 0.19; yours is 0.1")


@pytest.mark.parametrize(("curvature", "momentum"), [(20.0, 0.9), (4.0, 0.5), (10.0, 0.0)])
def test_the_limit_is_where_a_walk_diverges(curvature, momentum):
    def end(factor):
        rule = walker("momentum", factor * momentum_limit(curvature, momentum), momentum)
        walk = paths({"": rule}, lambda place: curvature * place[..., 0] ** 2 / 2, (1.0, 0.0), 3_000)[""]
        return abs(float(walk[-1, 0]))

    assert end(0.99) < 1e-3
    assert end(1.01) > 1e3


def test_the_valley():
    assert check_valley(lambda: ("momentum", 3e-4, 0.9)).passed

    def my_choice():
        return "Adam", 0.001, 0.9

    told = check_valley(my_choice)
    assert not told.passed
    assert told.message.startswith("Adam with lr 0.001 and momentum 0.9 ends at a loss of 1")
    assert told.message.endswith("; should be below 0.05")
    assert check_valley(lambda: ("SGD", 0.1, 0.0)).message == "SGD with lr 0.1 and momentum 0 diverges"
    allowed = "'SGD', 'momentum', 'Nesterov', 'Adagrad', 'RMSprop', 'Adam', 'AMSGrad', 'AdamW'"
    my_choice = lambda: ("adam", 0.1, 0.0)  # noqa: E731
    my_choice.__name__ = "my_choice"
    assert check_valley(my_choice).message == f"my_choice() raised ValueError: name is 'adam'; allowed: {allowed}"


def test_the_first_step_of_adam_is_lr_long():
    w, *_ = adam_step(torch.zeros(2), torch.tensor([1e-3, 50.0]), torch.zeros(2), torch.zeros(2), 1, 0.1)
    assert w.tolist() == pytest.approx([-0.1, -0.1], rel=1e-4)
