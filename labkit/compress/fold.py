"""BatchNorm folding: in evaluation mode BatchNorm is a factor and an offset per channel; the layer before absorbs both.

    γ (W x + b - μ) / √(σ² + ε) + β  =  (f W) x + f (b - μ) + β        f = γ / √(σ² + ε)

The network computes the same, with one vector per layer instead of four (Jacob et al. 2018, section 3.2). The integers
of a quantized layer stay, and the scale takes the factor: f (q - zero_point) scale = (q - zero_point) (f scale).
"""

from typing import cast

import torch
from torch import Tensor, fx, nn

from labkit import _check
from labkit.compress import _weights, quantize
from labkit.compress.grid import Grid, in_groups

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # their weights have one row per output channel
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A new model, in evaluation mode, of the same class: BatchNorm becomes Identity, absorbed by the layer before.

    γ (W x + b - μ) / √(σ² + ε) + β = (f W) x + f (b - μ) + β, with f = γ / √(σ² + ε) (Jacob et al. 2018, section 3.2).

    Args:
        model: its layers are found by tracing it with torch.fx. A quantized layer keeps its integers, and its scale
            takes the factor of each channel.

    Returns:
        A new model. BatchNorm works along dimension 1, a linear layer along the last: a folded linear layer takes
        (n, features) only, and raises ValueError for (n, tokens, features), whose tokens BatchNorm would have
        normalized.

    Raises:
        ValueError: names a BatchNorm without a linear layer or convolution of its own before it, or without running
            statistics; a layer whose weights are tied, shared values, or train for a grid; or why tracing failed.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4, eps=0.5)).eval()
        >>> folded = lk.fold_batchnorm(model)
        >>> [type(layer).__name__ for layer in folded]
        ['Conv2d', 'Identity']
        >>> x = lk.load_data("digits").test.x
        >>> torch.allclose(folded(x), model(x), atol=1e-4)  # the outputs do not change
        True
    """
    _check.kind(nn.Module, model=model)
    pairs = _pairs(model)
    model = _weights.clone(model).eval()
    for name, norm_name in pairs.items():
        _fold(model.get_submodule(name), cast(nn.BatchNorm2d, model.get_submodule(norm_name)))
        parent, attribute = _weights.owner_of(model, norm_name)
        setattr(parent, attribute, nn.Identity())
    return model


def folded(model: nn.Module) -> nn.Module:
    """`fold_batchnorm` of a model whose BatchNorms it can fold; any other model itself."""
    _check.kind(nn.Module, model=model)
    try:
        return fold_batchnorm(model)
    except ValueError:
        return model


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(f, β - f μ), float64, one value per channel: what a BatchNorm does to its input in evaluation mode."""
    mean, variance = (cast(Tensor, value).double() for value in (norm.running_mean, norm.running_var))
    factor = (variance + norm.eps).rsqrt()
    if not norm.affine:
        return factor, -factor * mean
    factor = norm.weight.double() * factor
    return factor, norm.bias.double() - factor * mean


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.BatchNorm2d) -> None:
    factor, shift = scale_and_shift(norm)
    weight, bias = cast(Tensor, layer.weight), cast(Tensor | None, layer.bias)
    shift = shift if bias is None else shift + factor * bias.double()
    if stored := quantize.integers_of(layer):
        quantize.install(layer, "weight", *_scaled(*stored, factor))
    else:
        rows = factor.view(-1, *[1] * (weight.ndim - 1))
        layer.weight = nn.Parameter((weight.double() * rows).to(weight.dtype), weight.requires_grad)
    trains = _weights.trains(layer, "weight" if bias is None else "bias")
    layer.bias = nn.Parameter(shift.to(weight.dtype), trains)
    layer.register_forward_pre_hook(_check_axis)


def _scaled(q: Tensor, grid: Grid, factor: Tensor) -> tuple[Tensor, Grid]:
    """Integers and grid of the weight times `factor`, one number per row of q.

    Where the factor is negative, the integers change their sign. -2^(bits - 1) has no counterpart on a symmetric grid;
    then the grid becomes affine, and q and zero_point of these rows are counted from its other end.
    """
    per_row = factor.view(-1, *[1] * (q.ndim - 1))  # as it broadcasts to q
    per_scale = (factor.view(len(q), 1) if in_groups(grid, tuple(q.shape)) else per_row).to(grid.scale.dtype)
    scale = (grid.scale * per_scale.abs()).clamp(min=torch.finfo(grid.scale.dtype).tiny)
    zero_point, q, symmetric = grid.zero_point.expand_as(scale), q.int(), grid.symmetric
    if symmetric and int(torch.where(per_row < 0, -q, q).max()) > grid.quant_max:
        symmetric, q, zero_point = False, q - grid.quant_min, zero_point - grid.quant_min
    last = 0 if symmetric else 2**grid.bits - 1
    q = torch.where(per_row < 0, last - q, q).to(torch.int8 if symmetric else torch.uint8)
    zero_point = torch.where(per_scale < 0, last - zero_point, zero_point)
    return q, Grid(scale, zero_point, grid.bits, symmetric, grid.dtype)


def _check_axis(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse an input whose channels are not along dimension 1, as BatchNorm requires."""
    expected = cast(Tensor, layer.weight).ndim  # (n, features) or (n, channels, pixels)
    if inputs and inputs[0].ndim != expected:
        raise ValueError(f"a folded {type(layer).__name__} got an input of shape {tuple(inputs[0].shape)}; allowed: "
                         f"{expected} dimensions, because its BatchNorm was along dimension 1")  # fmt: skip


def _pairs(model: nn.Module) -> dict[str, str]:
    """{layer: the BatchNorm to fold into it}, by name; ValueError for a BatchNorm that cannot be folded."""
    norms = [name for name, module in model.named_modules() if isinstance(module, NORMS)]
    if not norms:
        raise ValueError(f"model {type(model).__name__} has no BatchNorm; nothing to fold")
    try:
        nodes = list(fx.Tracer().trace(_weights.plain(model).eval()).nodes)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise ValueError(f"model {type(model).__name__} cannot be traced by torch.fx, since its forward branches on "
                         f"values or sizes ({type(error).__name__})") from error  # fmt: skip
    calls = {name: [n for n in nodes if n.op == "call_module" and n.target == name] for name in norms}
    read = {str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr"}
    pairs = {}
    for name, uses in calls.items():
        layer = _layer_before(model, nodes, uses)
        _check_pair(model, layer, name)
        if again := read & {layer, name}:  # as by F.linear(x, layer.weight)
            raise ValueError(f"{name} cannot be folded: the model also reads tensors of {min(again)} itself")
        pairs[cast(str, layer)] = name
    return pairs


def _layer_before(model: nn.Module, nodes: list[fx.Node], uses: list[fx.Node]) -> str | None:
    """The layer whose output goes into a BatchNorm and nowhere else; None if there is no such layer."""
    if len(uses) != 1 or not isinstance(uses[0].args[0], fx.Node):
        return None
    before = uses[0].args[0]
    if before.op != "call_module" or not isinstance(model.get_submodule(cast(str, before.target)), LAYERS):
        return None
    alone = len(before.users) == 1 and sum(node.target == before.target for node in nodes) == 1
    return cast(str, before.target) if alone else None


def _check_pair(model: nn.Module, layer: str | None, norm: str) -> None:
    module = cast(nn.BatchNorm2d, model.get_submodule(norm))
    if layer is None:
        raise ValueError(f"{norm} cannot be folded: it needs a linear layer or convolution before it, of its own")
    if module.running_mean is None:
        raise ValueError(f"{norm} cannot be folded: it keeps no running statistics")
    owner = model.get_submodule(layer)
    own = "weight" in owner._parameters or quantize.integers_of(owner) is not None
    if not own or len(_weights.sharers(model, f"{layer}.weight")) > 1:
        raise ValueError(f"{layer}.weight is tied, shared or trains for a grid: fold {norm} before that")
    if len(cast(Tensor, owner.weight)) != module.num_features:
        raise ValueError(f"{norm} cannot be folded: its channels are not the outputs of {layer}")
