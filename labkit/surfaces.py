"""Losses over a plane, for watching update rules: three in closed form, and a slice of a trained network's loss.

A surface maps places (..., 2) to losses (...); it is shown within HALF_WIDTH of 0 in both coordinates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check
from labkit._module import clone, evaluating, logits_of
from labkit.data import Split
from labkit.optim import RULES, Rule, State

Surface = Callable[[Tensor], Tensor]
HALF_WIDTH = 2.0


def ravine(condition: float, angle: float = 0.0) -> Surface:
    """(u² + κ v²) / 2: `condition` κ ≥ 1 times as steep across as along; gradient descent diverges above η = 2 / κ.

    u and v are x and y turned by `angle` degrees: at 0 the ravine lies along x, at 45 along the diagonal.
    """
    _check.number("condition", condition, 1, float("inf"), open_high=True)
    _check.numbers(angle=angle)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def surface(place: Tensor) -> Tensor:
        x, y = place.unbind(-1)
        return ((cosine * x + sine * y) ** 2 + condition * (cosine * y - sine * x) ** 2) / 2

    return surface


def _check_place(place: Tensor) -> None:
    _check.kind(Tensor, place=place)
    if place.ndim == 0 or place.shape[-1] != 2 or not place.is_floating_point():
        raise ValueError(f"place has the shape {tuple(place.shape)}, {place.dtype}; allowed: floats (…, 2)")


def rosenbrock(place: Tensor) -> Tensor:
    """(1 - x)² + 100 (y - x²)²: a curved, flat valley whose lowest point is (1, 1) (Rosenbrock 1960)."""
    _check_place(place)
    x, y = place.unbind(-1)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def saddle(place: Tensor) -> Tensor:
    """(x² + (y² - 1)² / 2) / 2: a saddle at 0, flat along y, between the two lowest points (0, 1) and (0, -1)."""
    _check_place(place)
    x, y = place.unbind(-1)
    return (x**2 + (y**2 - 1) ** 2 / 2) / 2


def fitted(losses: Tensor, degree: int = 8) -> Surface:
    """The polynomial Σ c_ij yⁱ xʲ, i and j up to `degree`, nearest to losses (n, n) on a square grid over the frame.

    Rows of the grid are y, columns x. Outside the frame the surface is NaN, since nothing is known there.
    """
    _check.whole("degree", degree, 0, 100)
    _check.shaped(Tensor, 2, losses=losses)
    if losses.shape[0] != losses.shape[1]:
        raise ValueError(f"losses has the shape {tuple(losses.shape)}; allowed: (n, n)")
    _check.finite("losses", losses)
    powers = torch.arange(degree + 1)
    axis = torch.linspace(-1, 1, len(losses), dtype=torch.float64)
    inverse = torch.linalg.pinv(axis[:, None] ** powers)
    coefficients = inverse @ losses.double() @ inverse.T

    def surface(place: Tensor) -> Tensor:
        x, y = ((place[..., i, None].double() / HALF_WIDTH) ** powers for i in (0, 1))
        inside = (place.abs() <= HALF_WIDTH).all(-1)
        return torch.where(inside, (y @ coefficients * x).sum(-1), torch.nan)

    return surface


def walker(name: str, lr: float, momentum: float) -> Rule:
    """The rule of that name with its settings bound: `momentum` is μ, or β₁ of Adam, AMSGrad and AdamW."""
    _check.one_of("name", name, RULES)
    _check.number("lr", lr, 0, float("inf"), open_low=True, open_high=True)
    _check.number("momentum", momentum, 0, 1, open_high=True)
    if name in ("momentum", "Nesterov"):
        return partial(RULES[name], lr=lr, momentum=momentum)
    betas = {"betas": (momentum, 0.999)} if name in ("Adam", "AMSGrad", "AdamW") else {}
    return partial(RULES[name], lr=lr, **betas)


def paths(rules: Mapping[str, Rule], surface: Surface, start: Sequence[float], steps: int) -> dict[str, Tensor]:
    """The places (steps + 1, 2), float64, that each rule visits from `start`; NaN after it diverges.

    Each rule has its settings bound, as by `walker`. All gradients are computed in one call, since they take most
    of the time. ValueError for steps outside 1 to 10,000.
    """
    _check.whole("steps", steps, 1, 10_000)
    _check.kind(Mapping, rules=rules)
    _check.whole("the number of rules", len(rules), 1, 1_000)
    _check.kind(Callable, surface=surface, **{f"rules[{name!r}]": rule for name, rule in rules.items()})
    if not isinstance(start, Sequence) or len(start) != 2:
        raise TypeError(f"start is {_check.shown(start)}; allowed: two numbers")
    _check.numbers(**{f"start[{i}]": value for i, value in enumerate(start)})
    place = torch.tensor([start] * len(rules), dtype=torch.float64)
    states: list[State] = [{} for _ in rules]
    places = [place]
    for _ in range(steps):
        moved = [rule(w, g, state) for rule, w, g, state in
                 zip(rules.values(), place, gradient(surface, place), states, strict=True)]  # fmt: skip
        place, states = torch.stack([w for w, _ in moved]), [state for _, state in moved]
        places.append(place)
    return dict(zip(rules, torch.stack(places, 1), strict=True))


def gradient(surface: Surface, place: Tensor) -> Tensor:
    """The gradient of a surface at places (..., 2), by autograd."""
    _check.kind(Callable, surface=surface)
    _check_place(place)
    place = place.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(surface(place).sum(), place)[0]


def filter_direction(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction in weight space, in which every unit's weights are as long as they are in `model`.

    "Filter normalized" (Li et al. 2018, section 4): otherwise a network with large weights looks flat. Biases and
    BatchNorm are not changed.
    """
    _check.kind(nn.Module, model=model)
    seed = _check.seed(seed)
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, w in model.named_parameters():
        if w.ndim > 1:
            d = torch.randn(w.shape, generator=generator)
            sizes = [t.detach().flatten(1).norm(dim=1).view(-1, *[1] * (w.ndim - 1)) for t in (w, d)]
            direction[name] = d * sizes[0] / sizes[1]
    return direction


@torch.inference_mode()
def slice_loss(model: nn.Module, split: Split, x: float, y: float, seed: int = 0) -> float:
    """The mean cross-entropy on `split` of `model` moved by (x a + y b) / HALF_WIDTH, a and b two filter directions."""
    _check.kind(nn.Module, model=model)
    _check.kind(Split, split=split)
    _check.numbers(x=x, y=y)
    seed = _check.whole("seed", seed, 0, 2**62 - 1)
    moved = clone(model)
    for step, direction in ((x, filter_direction(model, 2 * seed)), (y, filter_direction(model, 2 * seed + 1))):
        for name, d in direction.items():
            moved.get_parameter(name).add_(d, alpha=step / HALF_WIDTH)
    with evaluating(moved):
        return float(F.cross_entropy(logits_of(moved, split.x, int(split.y.max())), split.y))
