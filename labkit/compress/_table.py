"""The torch operations that units are followed through, by function name and kind."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor

from labkit.compress._units import tensors


class Call(NamedTuple):
    """One call of a torch function and its results."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor]

    def arg(self, place: int, *names: str, default: Any = None) -> Any:
        """An argument by its position or one of its names."""
        if place < len(self.args):
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)

    def on(self, numbers: Tensor) -> list[Tensor]:
        """The function's results with `numbers` as its first argument."""
        if self.args:
            return list(tensors(self.function(numbers, *self.args[1:], **self.kwargs)))
        return list(tensors(self.function(**self.kwargs | {"input": numbers})))

    @property
    def open(self) -> int:
        """The dimension that a reshape infers, given as -1; -1 if none."""
        first = 2 if self.name == "unflatten" else 1
        sizes = self.arg(first, "shape", "sizes", default=())
        sizes = list(sizes if isinstance(sizes, list | tuple) else self.args[first:])
        if self.name not in ("view", "reshape", "unflatten") or -1 not in sizes:
            return -1
        return sizes.index(-1) + (self.arg(1, "dim") % self.arg(0, "input").ndim if first == 2 else 0)


def _at(place: int, default: Any = None) -> Callable[[Call, int], list[int]]:
    """The dimensions that an argument names; all if it is not given."""

    def dims(call: Call, ndim: int) -> list[int]:
        given = call.arg(place, "dim", "axis", default=default)
        return list(range(ndim)) if given is None else list(given) if isinstance(given, list | tuple) else [given]

    return dims


def _last(n: int) -> Callable[[Call, int], range]:
    return lambda call, ndim: range(ndim - n, ndim)


MIXED: dict[str, Callable[[Call, int], Iterable[int]]] = {
    **dict.fromkeys([
        "mean", "sum", "amax", "amin", "max", "min", "std", "var", "prod", "logsumexp", "softmax", "log_softmax",
        "argmax", "argmin", "cumsum", "any", "all",
    ], _at(1)),
    **{"norm": _at(2), "normalize": _at(2, 1), "topk": _at(2, -1), "roll": _at(2)},
    **{f"{kind}_pool{n}d{end}": _last(n) for n in (1, 2, 3) for end in ("", "_with_indices")
       for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg", "fractional_max")},
    **{f"max_unpool{n}d": _last(n) for n in (1, 2, 3)},
    **dict.fromkeys(["interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "grid_sample"],
                    lambda call, ndim: range(2, ndim)),
    **dict.fromkeys(["layer_norm", "rms_norm"], lambda call, ndim: range(-len(call.arg(1, "normalized_shape")), 0)),
}  # fmt: skip
CONTRACTED: dict[str, list[tuple[int, ...]]] = {  # dimensions of each operand that are summed over
    **dict.fromkeys(["matmul", "__matmul__", "bmm", "mm"], [(-1,), (-2,)]),
    "scaled_dot_product_attention": [(-1,), (-2, -1), (-2,), (-1,)],
}
POINTWISE = {
    "add", "sub", "mul", "div", "true_divide", "pow", "rsub", "rdiv", "rpow", "truediv", "maximum", "minimum", "fmax",
    "fmin", "where", "clamp", "clamp_min", "clamp_max", "abs", "neg", "sqrt", "rsqrt", "exp", "log", "log1p",
    "sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish",
    "hardsigmoid", "hardtanh", "softplus", "softsign", "tanhshrink", "softshrink", "hardshrink", "logsigmoid",
    "log_sigmoid", "rrelu", "floor", "ceil", "round", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "alpha_dropout", "feature_alpha_dropout", "masked_fill", "eq", "ne", "lt", "le", "gt", "ge", "float", "double",
    "half", "bfloat16", "bool", "to", "type", "type_as", "clone", "detach", "contiguous", "data", "zeros_like",
    "ones_like", "randn_like", "and", "or", "xor", "invert", "copy", "cpu", "cuda", "square",
}  # fmt: skip
MOVES = {
    "permute", "transpose", "movedim", "t", "T", "mT", "squeeze", "unsqueeze", "flatten", "unflatten", "reshape",
    "view", "view_as", "expand", "expand_as", "repeat", "repeat_interleave", "flip", "channel_shuffle",
    "pixel_shuffle", "pixel_unshuffle",
}  # fmt: skip
PIECES = {"chunk", "split", "split_with_sizes", "unbind", "__getitem__", "narrow", "select"}
LAYERS = ["linear", "embedding", "embedding_bag", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3))]
DECIDE = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "equal", "allclose"}
SIZES = {"new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"}  # use only the type and device of their input
