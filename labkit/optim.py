"""Update rules written for reading, then learning-rate schedules as plain functions. Training uses torch's own.

A rule takes the weights w, the gradient g, the state that it returned at the previous step ({} before the first) and
its settings. It returns the new weights and the new state and changes nothing in place:

    w, state = adam(w, g, state, lr=1e-3)

Each equals, step for step, torch.optim's optimizer of its name, with torch's defaults (tests/test_rules.py). A schedule
maps training progress in [0, 1] to a multiple of the peak learning rate.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from labkit import _check

State = dict[str, Any]
Rule = Callable[..., tuple[Tensor, State]]
Pair = tuple[float, float]
BETAS: Pair = (0.9, 0.999)

# --- update rules: (w, g, state, lr, ...) -> (w, state) ---------------------------------------------------------------


def sgd(w: Tensor, g: Tensor, state: State, lr: float, weight_decay: float = 0.0) -> tuple[Tensor, State]:
    """w ← w - η g, gradient descent; g ← g + λ w first, with weight decay (here as L2, a term of the loss)."""
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay)
    g = g + weight_decay * w
    return w - lr * g, state


def momentum(
    w: Tensor, g: Tensor, state: State, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> tuple[Tensor, State]:
    """v ← μ v + g; w ← w - η v: a heavy ball (Polyak 1964). A constant gradient moves it 1 / (1 - μ) times as far."""
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, momentum=momentum)
    g = g + weight_decay * w
    v = momentum * state.get("v", 0) + g
    return w - lr * v, {"v": v}


def nesterov(
    w: Tensor, g: Tensor, state: State, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> tuple[Tensor, State]:
    """v ← μ v + g; w ← w - η (g + μ v): the next momentum step is taken in advance (Nesterov 1983).

    In the form of Sutskever et al. (2013) the gradient is taken at the next place, w - η μ v. Torch stores that place
    instead of w, so the gradient is taken where the network is.
    """
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, momentum=momentum)
    g = g + weight_decay * w
    v = momentum * state.get("v", 0) + g
    return w - lr * (g + momentum * v), {"v": v}


def adagrad(
    w: Tensor, g: Tensor, state: State, lr: float, eps: float = 1e-10, weight_decay: float = 0.0
) -> tuple[Tensor, State]:
    """s ← s + g²; w ← w - η g / (√s + ε): every weight has its own rate, which only falls (Duchi et al. 2011)."""
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, eps=eps)
    g = g + weight_decay * w
    s = state.get("s", 0) + g**2
    return w - lr * g / (s.sqrt() + eps), {"s": s}


def rmsprop(
    w: Tensor, g: Tensor, state: State, lr: float, beta: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0
) -> tuple[Tensor, State]:
    """s ← β s + (1 - β) g²; w ← w - η g / (√s + ε): Adagrad with a moving average (Tieleman & Hinton 2012).

    s starts at 0 and is not corrected for it: the first step is η / √(1 - β) long, ten times η by default. Torch calls
    β alpha.
    """
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, beta=beta, eps=eps)
    g = g + weight_decay * w
    s = beta * state.get("s", 0) + (1 - beta) * g**2
    return w - lr * g / (s.sqrt() + eps), {"s": s}


def adam(
    w: Tensor, g: Tensor, state: State, lr: float, betas: Pair = BETAS, eps: float = 1e-8, weight_decay: float = 0.0
) -> tuple[Tensor, State]:
    """m ← β₁ m + (1 - β₁) g; s ← β₂ s + (1 - β₂) g²; w ← w - η m̂ / (√ŝ + ε) (Kingma & Ba 2015).

    m̂ = m / (1 - β₁ᵗ) and ŝ = s / (1 - β₂ᵗ) correct for the zeros that both means start from: the first step has
    the length η for every weight, whatever its gradient.
    """
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, eps=eps, **_named(betas))
    g = g + weight_decay * w
    t, m, s = _moments(g, state, betas)
    m_hat, s_hat = m / (1 - betas[0] ** t), s / (1 - betas[1] ** t)
    return w - lr * m_hat / (s_hat.sqrt() + eps), {"t": t, "m": m, "s": s}


def amsgrad(
    w: Tensor, g: Tensor, state: State, lr: float, betas: Pair = BETAS, eps: float = 1e-8, weight_decay: float = 0.0
) -> tuple[Tensor, State]:
    """Adam that divides by the largest s so far, so that no weight's rate ever rises (Reddi et al. 2018).

    As in torch the maximum is taken of s, and corrected for the start afterwards; the paper has no correction at all.
    """
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, eps=eps, **_named(betas))
    g = g + weight_decay * w
    t, m, s = _moments(g, state, betas)
    largest = torch.maximum(s, state.get("largest", s))
    m_hat, s_hat = m / (1 - betas[0] ** t), largest / (1 - betas[1] ** t)
    return w - lr * m_hat / (s_hat.sqrt() + eps), {"t": t, "m": m, "s": s, "largest": largest}


def adamw(
    w: Tensor, g: Tensor, state: State, lr: float, betas: Pair = BETAS, eps: float = 1e-8, weight_decay: float = 0.01
) -> tuple[Tensor, State]:
    """w ← (1 - η λ) w, then Adam without weight decay (Loshchilov & Hutter 2019).

    The decay does not pass through √ŝ: weights with large gradients shrink as fast as the others.
    """
    _check_step(w, g, state, lr=lr, weight_decay=weight_decay, eps=eps, **_named(betas))
    return adam((1 - lr * weight_decay) * w, g, state, lr, betas, eps)


def _moments(g: Tensor, state: State, betas: Pair) -> tuple[int, Tensor, Tensor]:
    """The step's number from 1, and the running means of g and of g²."""
    m = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    s = betas[1] * state.get("s", 0) + (1 - betas[1]) * g**2
    return state.get("t", 0) + 1, m, s


def _check_step(w: Tensor, g: Tensor, state: State, **settings: float) -> None:
    """Refuse anything but two tensors of one shape, the state of a rule and finite settings."""
    _check.kind(Tensor, w=w, g=g)
    _check.kind(dict, state=state)
    _check.numbers(**settings)
    if w.shape != g.shape:
        raise ValueError(f"g has the shape {tuple(g.shape)}; allowed: that of w, {tuple(w.shape)}")


def _named(betas: Pair) -> dict[str, float]:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"betas is {_check.shown(betas)}; allowed: two numbers")
    return {"betas[0]": betas[0], "betas[1]": betas[1]}


RULES: dict[str, Rule] = {
    "SGD": sgd,
    "momentum": momentum,
    "Nesterov": nesterov,
    "Adagrad": adagrad,
    "RMSprop": rmsprop,
    "Adam": adam,
    "AMSGrad": amsgrad,
    "AdamW": adamw,
}
TORCHS: dict[str, Callable[..., torch.optim.Optimizer]] = {  # the same, as training uses them
    "SGD": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "Nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "Adagrad": torch.optim.Adagrad,
    "RMSprop": torch.optim.RMSprop,
    "Adam": torch.optim.Adam,
    "AMSGrad": partial(torch.optim.Adam, amsgrad=True),
    "AdamW": torch.optim.AdamW,
}


class FollowRule(torch.optim.Optimizer):
    """A torch optimizer that follows a rule, for `fit(optimizer=functools.partial(FollowRule, rule=adam))`."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, rule: Rule, **settings: Any) -> None:
        parameters = [*parameters] if isinstance(parameters, Iterable) else []
        if not parameters or not all(isinstance(p, Tensor | dict) for p in parameters):
            raise TypeError("parameters is not a list of tensors; allowed: what model.parameters() gives")
        _check.numbers(lr=lr)
        _check.kind(Callable, rule=rule)
        super().__init__(parameters, dict(lr=lr, **settings))
        self._rule = rule

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient by one step of the rule."""
        for group in self.param_groups:
            settings = {name: group[name] for name in self.defaults}
            for w in group["params"]:
                if w.grad is not None:
                    new, self.state[w] = self._rule(w, w.grad, self.state[w], **settings)
                    w.copy_(new)


# --- schedules: progress in [0, 1] -> multiple of the peak learning rate ----------------------------------------------

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    """The peak learning rate throughout."""
    _check.numbers(progress=progress)
    return 1.0


def step_decay(progress: float, milestones: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> float:
    """Multiply by `factor` at every milestone: f(p) = factor ^ (number of milestones ≤ p)."""
    _check.kind(Sequence, milestones=milestones)
    _check.numbers(progress=progress, factor=factor, **{f"milestones[{i}]": m for i, m in enumerate(milestones)})
    return factor ** sum(progress >= milestone - 1e-9 for milestone in milestones)  # progress has rounding errors


def exponential(progress: float, final: float = 0.01) -> float:
    """Shrink by the same factor at every step, down to `final` > 0: f(p) = final ^ p."""
    _check.numbers(progress=progress)
    _check.number("final", final, 0, 1, open_low=True)
    return final**progress


def cosine(progress: float, final: float = 0.0) -> float:
    """Half a cosine from 1 down to `final`: f(p) = final + (1 - final) (1 + cos πp) / 2 (Loshchilov & Hutter 2017)."""
    _check.numbers(progress=progress, final=final)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def linear(progress: float, final: float = 0.0) -> float:
    """A straight line from 1 down to `final`: f(p) = 1 - (1 - final) p."""
    _check.numbers(progress=progress, final=final)
    return 1 - (1 - final) * progress


def one_cycle(
    progress: float,
    rise: float = 0.3,
    start: float = 1 / 25,
    final: float = 4e-6,
    shape: Callable[[float, float], float] = cosine,
) -> float:
    """Rise from `start` to 1 in the first `rise` of training, then fall to `final` (Smith & Topin 2017).

    f(p) = shape(1 - p / r, start) for p < r, else shape((p - r) / (1 - r), final). The paper's `shape` is linear, the
    default is torch's. The paper also lowers the momentum as the rate rises; here it is constant.
    """
    _check.numbers(progress=progress, start=start, final=final)
    _check.number("rise", rise, 0, 1, open_high=True)
    _check.kind(Callable, shape=shape)
    if progress < rise:
        return shape(1 - progress / rise, start)
    return shape((progress - rise) / (1 - rise), final)


def with_warmup(schedule: Schedule, warmup: float = 0.1) -> Schedule:
    """Rise linearly from 0 over the first `warmup` in [0, 1) of training, then run all of `schedule` in the rest.

    f(p) = p / w for p < w, else schedule((p - w) / (1 - w)).
    """
    _check.kind(Callable, schedule=schedule)
    _check.number("warmup", warmup, 0, 1, open_high=True)

    def warmed(progress: float) -> float:
        return progress / warmup if progress < warmup else schedule((progress - warmup) / (1 - warmup))

    return warmed


def warmup_cosine(progress: float, warmup: float = 0.1) -> float:
    """Rise linearly over the first `warmup` of training, then follow half a cosine down to zero.

    f(p) = p / w for p < w, else (1 + cos(π (p - w) / (1 - w))) / 2. That is with_warmup(cosine, w), written out so that
    earlier trainings can be repeated to the last bit.
    """
    _check.numbers(progress=progress)
    _check.number("warmup", warmup, 0, 1, open_high=True)
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "step": step_decay,
    "exponential": exponential,
    "linear": linear,
    "cosine": cosine,
    "one-cycle": one_cycle,
}


@dataclass(frozen=True)
class Step:
    """Where a training stands: what the hooks of `fit` get after each optimizer step."""

    number: int  # 1 to total
    total: int
    epoch: int  # the epoch of this step, from 1
    ends_epoch: bool
    lr: float  # the learning rate of this step

    @property
    def progress(self) -> float:
        """The fraction of the training that is done, above 0, 1 after the last step."""
        return self.number / self.total

    def within(self, total: int, steps_before: int, epochs_before: int) -> "Step":
        """The same step, counted in a longer training of which this one is a part."""
        number, epoch = steps_before + self.number, epochs_before + self.epoch
        return replace(self, number=number, total=total, epoch=epoch)


Hook = Callable[[nn.Module, Step], None]
Hooks = Hook | Sequence[Hook]


class Plateau:
    """Constant until the watched value stops falling, then times `factor`: a schedule that depends on the network.

    It is not a function of progress, so it is an object with two callables, for one run only:
    `fit(…, schedule=plateau, after_step=plateau.look)`. `look` calls `watched(model)`, such as the loss on validation,
    `looks` times in the run, at equal distances. A value is better if it is below (1 - threshold) times the best;
    after more than `patience` looks in a row that were not better, the rate falls. ValueError for settings out of
    range. Equals torch's ReduceLROnPlateau.
    """

    def __init__(
        self,
        watched: Callable[[nn.Module], float],
        looks: int,
        factor: float = 0.1,
        patience: int = 2,
        threshold: float = 1e-4,
    ) -> None:
        _check.kind(Callable, watched=watched)
        _check.numbers(threshold=threshold)
        _check.whole("looks", looks, 1, 1_000_000)
        _check.number("factor", factor, 0, 1, open_low=True, open_high=True)
        _check.whole("patience", patience, 0, 1_000_000)
        self.watched, self.looks, self.factor, self.patience = watched, looks, factor, patience
        self.threshold, self.multiple, self.seen, self.best, self.waited = threshold, 1.0, 0, math.inf, 0

    def __call__(self, progress: float) -> float:
        """The current multiple of the peak learning rate."""
        return self.multiple

    def look(self, model: nn.Module, step: Step) -> None:
        """The `after_step` hook: call `watched` when it is time."""
        if step.progress * self.looks >= self.seen + 1 - 1e-9:  # rounding may make a whole number a little smaller
            self.see(self.watched(model))

    def see(self, value: float) -> None:
        """Process one watched value; NaN never counts as better."""
        self.seen += 1
        better = value < self.best * (1 - self.threshold)
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)
        if self.waited > self.patience:
            self.multiple, self.waited = self.factor * self.multiple, 0
