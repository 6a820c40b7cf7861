"""Integer gradients: gradients are rounded to a few bits before the optimizer uses them (Gupta et al. 2015).

    scale = max |g| / (2^(bits - 1) - 1)          q = ⌊g / scale + u⌋          g_hat = q · scale

With u = ½ that is rounding to the nearest level. With u drawn uniformly from [0, 1) it is stochastic rounding, whose
mean is g itself: rounding errors average out over the steps.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Generator, Tensor

from labkit import _check


def round_to_integers(x: Tensor, bits: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """(q, scale): int16 integers -n to n, n = 2^(bits - 1) - 1, and the float step between them; `bits` is 2 to 16.

    Stochastic with a `generator`, to the nearest level (halves upwards) without one. The largest |x| is always exact.
    """
    _check.whole("bits", bits, 2, 16)
    _check.filled(x=x)
    _check.kind(Generator | None, generator=generator)
    n = 2 ** (bits - 1) - 1
    scale = x.abs().amax() / n
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    u = torch.rand(x.shape, generator=generator) if generator else 0.5
    return (x / scale + u).floor().clamp(-n, n).to(torch.int16), scale


def integer_gradients(
    bits: int,
    *,
    stochastic: bool = True,
    seed: int = 0,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> Callable[..., torch.optim.Optimizer]:
    """An `optimizer` for `fit` that gets each tensor's gradient as integers of `bits` bits times a scale.

    g_hat = ⌊g / scale + u⌋ · scale, with scale = max |g| / (2^(bits - 1) - 1) (Gupta et al. 2015). Only the gradient is
    rounded: weights and the optimizer's averages stay float.

    Args:
        bits: bits of each entry of a gradient, 2 to 16.
        stochastic: u is drawn from [0, 1), so that the mean of g_hat is g; otherwise u = ½ rounds to the nearest.
        seed: that of the stochastic rounding.
        optimizer: the optimizer that steps with the rounded gradients.

    Returns:
        A function optimizer(parameters, lr=…, …), to be given to `fit`.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(4))
        >>> w.grad = torch.tensor([1.0, 0.4, -0.3, -0.8])
        >>> optimizer = lk.integer_gradients(bits=2, stochastic=False, optimizer=torch.optim.SGD)
        >>> optimizer([w], lr=1.0).step()
        >>> w.grad.int().tolist(), w.int().tolist()  # 2 bits: -1, 0 or 1, times max |g|
        ([1, 0, 0, -1], [-1, 0, 0, 1])
    """
    bits, seed = _check.whole("bits", bits, 2, 16), _check.seed(seed)
    _check.flags(stochastic=stochastic)
    _check.kind(Callable, optimizer=optimizer)

    def build(parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        generator = torch.Generator().manual_seed(seed) if stochastic else None

        def round_all(stepper: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for parameter in (p for group in stepper.param_groups for p in group["params"] if p.grad is not None):
                q, scale = round_to_integers(parameter.grad, bits, generator)
                parameter.grad = q * scale

        stepper = optimizer(parameters, **settings)
        stepper.register_step_pre_hook(round_all)
        return stepper

    return build
