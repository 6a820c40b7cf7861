"""Surfaces against their slopes in closed form, walks against algebra and torch, the slice against the network."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import load_data, take
from labkit.optim import RULES, TORCHS, adam, sgd
from labkit.surfaces import (
    HALF_WIDTH,
    filter_direction,
    fitted,
    gradient,
    paths,
    ravine,
    rosenbrock,
    saddle,
    slice_loss,
)
from labkit.sweep import shipped_sweep
from labkit.zoo import load_model

places = st.tuples(st.floats(-2, 2), st.floats(-2, 2))
SLOPES = {
    "ravine": (ravine(25), lambda x, y: (x, 25 * y)),
    "Rosenbrock": (rosenbrock, lambda x, y: (-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2))),
    "saddle": (saddle, lambda x, y: (x, y * (y**2 - 1))),
}


@pytest.mark.parametrize("name", SLOPES)
@given(place=places)
@settings(max_examples=50, deadline=None)
def test_slopes(name, place):
    surface, slope = SLOPES[name]
    found = gradient(surface, torch.tensor([place, place], dtype=torch.float64))
    torch.testing.assert_close(found[1].tolist(), list(slope(*place)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("surface", "lowest"),
    [(ravine(9), (0, 0)), (rosenbrock, (1, 1)), (saddle, (0, 1)), (saddle, (0, -1))],
    ids=["ravine", "Rosenbrock", "saddle, above", "saddle, below"],
)
def test_the_lowest_points(surface, lowest):
    place = torch.tensor(lowest, dtype=torch.float64)
    assert float(surface(place)) == 0
    around = place + 0.01 * torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (surface(around) > 0).all()


@given(place=places, condition=st.floats(1, 500), lr=st.floats(1e-4, 0.1))
@settings(max_examples=50, deadline=None)
def test_descent_in_a_ravine_is_a_geometric_series(place, condition, lr):
    walk = paths({"SGD": partial(sgd, lr=lr)}, ravine(condition), place, 20)["SGD"]
    k = torch.arange(21)
    expected = torch.stack([place[0] * (1 - lr) ** k, place[1] * (1 - lr * condition) ** k], 1)
    torch.testing.assert_close(walk, expected.double(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("lr", "arrives"), [(0.99 * 2 / 50, True), (1.01 * 2 / 50, False)])
def test_descent_diverges_above_two_over_the_curvature(lr, arrives):
    walk = paths({"SGD": partial(sgd, lr=lr)}, ravine(50), (1.0, 1.0), 2_000)["SGD"]
    assert (abs(float(walk[-1, 1])) < 1e-6) == arrives
    assert (abs(float(walk[-1, 1])) > 1e6) != arrives


def test_turning_a_ravine_turns_the_walk_of_descent_and_not_that_of_adam():
    def last(name, angle):
        turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64) if angle else torch.eye(2).double()
        start = turn @ torch.tensor([1.0, 0.5], dtype=torch.float64)
        walk = paths({name: partial(RULES[name], lr=0.05)}, ravine(10, angle), start.tolist(), 30)[name]
        return turn.T @ walk[-1]

    degrees = math.degrees(math.atan2(0.6, 0.8))
    for name in ("SGD", "momentum", "Nesterov"):
        torch.testing.assert_close(last(name, degrees), last(name, 0))
    assert float((last("Adam", degrees) - last("Adam", 0)).norm()) > 0.01


def test_several_walk_as_each_would_alone_and_as_torch_does():
    rules = {name: partial(rule, lr=0.003) for name, rule in RULES.items()}
    together = paths(rules, rosenbrock, (-1.5, 1.0), 40)
    for name, walk in together.items():
        assert walk.shape == (41, 2)
        torch.testing.assert_close(walk, paths({name: rules[name]}, rosenbrock, (-1.5, 1.0), 40)[name], equal_nan=True)
        w = torch.tensor([-1.5, 1.0], dtype=torch.float64, requires_grad=True)
        stepper = TORCHS[name]([w], lr=0.003)
        for _ in range(40):
            stepper.zero_grad()
            rosenbrock(w).backward()
            stepper.step()
        torch.testing.assert_close(walk[-1], w.detach(), rtol=1e-8, atol=1e-10, equal_nan=True)


def test_bad_settings_are_refused_in_a_sentence(refuses):
    refuses(
        ValueError, "steps is 0; allowed: a whole number from 1 to 10000",
        paths, {"Adam": partial(adam, lr=1)}, saddle, (0, 0), 0,
    )  # fmt: skip
    refuses(ValueError, "condition is 0.5; allowed: a number in [1, inf)", ravine, 0.5)
    grid = torch.tensor([[1.0, torch.nan], [0, 0]])
    refuses(ValueError, "losses holds 1 NaN or infinite values; allowed: finite numbers", fitted, grid)


def test_a_fitted_surface_is_the_polynomial_behind_its_grid_and_unknown_outside():
    def bowl(x, y):
        return 3 + x - 0.5 * y + x**2 * y**4 - 0.1 * x**7

    axis = torch.linspace(-HALF_WIDTH, HALF_WIDTH, 17, dtype=torch.float64)
    surface = fitted(bowl(axis[None, :], axis[:, None]))  # rows are y
    where = torch.tensor([[1.03, -1.51], [-2, 2], [0.3, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(surface(where), bowl(where[:, 0], where[:, 1]), rtol=1e-8, atol=1e-8)
    slope = gradient(surface, torch.tensor([0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(slope.tolist(), [1.0, -0.5], rtol=1e-8, atol=1e-8)
    assert surface(torch.tensor([[2.01, 0], [0, -9.0]])).isnan().all()


def test_the_fit_of_the_shipped_slice_is_near_every_measured_loss():
    table = shipped_sweep("slice", "lenet-300-100", "fashion-mnist")
    measured = torch.tensor(table.drop(columns="y").to_numpy())
    axis = torch.tensor(table["y"].to_numpy())
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    fit = fitted(measured)(torch.stack([x, y], -1))
    torch.testing.assert_close(fit, measured, rtol=0.02, atol=0)


def test_a_filter_direction_is_as_long_as_each_units_weights_and_leaves_biases_alone(conv_net):
    direction = filter_direction(conv_net, seed=1)
    assert set(direction) == {"0.weight", "3.weight"}
    for name, d in direction.items():
        w = conv_net.get_parameter(name)
        torch.testing.assert_close(d.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1))
    assert not direction["3.weight"].equal(filter_direction(conv_net, seed=2)["3.weight"])


@pytest.fixture
def conv_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(108, 10)
    )


def test_the_slice_is_the_networks_own_loss_and_leaves_it_alone(trained, digits):
    before = copy.deepcopy(trained.state_dict())
    split = digits.validation
    with torch.no_grad():
        here = float(F.cross_entropy(trained(split.x), split.y))
    assert slice_loss(trained, split, 0, 0) == pytest.approx(here, rel=1e-6)
    moved = copy.deepcopy(trained)
    for name, d in filter_direction(trained, 1).items():
        moved.get_parameter(name).data += 1.5 / HALF_WIDTH * d
    with torch.no_grad():
        there = float(F.cross_entropy(moved(split.x), split.y))
    assert slice_loss(trained, split, 0, 1.5) == pytest.approx(there, rel=1e-5)
    assert there > here
    assert all(value.equal(before[name]) for name, value in trained.state_dict().items())


def test_the_slice_of_a_network_that_keeps_what_it_computed(trained, digits):
    class Keeps(torch.nn.Sequential):
        def forward(self, x):
            self.last = super().forward(x)
            return self.last

    model = Keeps(*copy.deepcopy(trained))
    model(digits.test.x)
    assert slice_loss(model, digits.validation, 1, 1) == slice_loss(trained, digits.validation, 1, 1)


def test_the_shipped_slice_is_what_is_measured_today():
    table = shipped_sweep("slice", "lenet-300-100", "fashion-mnist")
    model, seen = load_model("lenet-300-100", "fashion-mnist"), take(load_data("fashion-mnist").train, 1_000)
    assert table.shape == (33, 34)
    for y, x in ((0.0, 0.0), (-1.0, 1.5), (2.0, -2.0)):
        stored = table[table["y"] == y][f"x={x:g}"].item()
        assert stored == pytest.approx(slice_loss(model, seen, x, y), rel=1e-4)
