"""A quantized network as one C99 header: weights as the `.lk` file stores them, their decoder, inference in integers.

The C code in `engine/` is the same for every network. `c_plan` finds what it has to know of one, `c_text` writes it.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from labkit import _check
from labkit._files import replace
from labkit.compress.integer import IntegerNetwork, integer_only
from labkit.export import c_text
from labkit.export.c_plan import plan
from labkit.store import CODERS, QUICK


def c(
    model: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    name: str = "network",
    coders: Collection[str] = QUICK,
    pixels: tuple[Tensor, Tensor] | None = None,
) -> Path:
    """Write `model` as one C99 header that needs no library, no allocation and no floating point, atomically.

    It computes the int32 sums of the last layer, those of `integer_only(model)` exactly (Jacob et al. 2018). Weights
    stay compressed; where that takes less memory, a layer uses each weight while it is decoded and never stores it.

    Args:
        model: a network that `integer_only` takes: symmetric weights, activation_bits; a chain of linear layers,
            convolutions, max-pooling, flatten and ReLU.
        example: inputs (n, …), n ≥ 1, that the model takes; the C code takes one input of that shape.
        path: where to write.
        name: the header's names begin with it: a letter, then letters, digits or _.
        coders: each weight gets the one that makes it shortest, as in `save`. "context" is the shortest for sparse
            weights, and slow to decode.
        pixels: (mean, std) of a data set of pictures, one number per channel: the header then has a function that turns
            8-bit pixels into the inputs that x = (pixel / 255 - mean) / std would give.

    Returns:
        The path.

    Raises:
        ValueError: names the layer or the operation that the C code does not know.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> small = lk.quantize(model, bits=4, activation_bits=8, calibration=data.train)
        >>> path = lk.export.c(small, data.test.x, "digits.h", name="digits")
        >>> "void digits_infer(const uint8_t *input, int32_t *logits);" in path.read_text()
        True
    """
    _check.filled(example=example)
    _check.kind(str | Path, path=path)
    _check.kind(str, name=name)
    _check.known("coders", coders, CODERS)
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name is {_check.shown(name)}; allowed: a letter, then letters, digits or _")
    network = cast(IntegerNetwork, integer_only(model))
    layers = plan(network, example, coders)
    maps = None if pixels is None else c_text.pixel_maps(network.grid, tuple(example.shape[1:]), *pixels)
    replace(path, [c_text.header(name, network, layers, maps).encode()])
    return Path(path)
