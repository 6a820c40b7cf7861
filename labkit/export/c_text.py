"""The text of a C header: what is said and declared of one network, its tables, and the engine."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from labkit import _check
from labkit.compress.grid import Grid, to_integers
from labkit.compress.integer import IntegerLayer, IntegerNetwork
from labkit.export.c_plan import Layer, memory


def header(name: str, network: IntegerNetwork, layers: list[Layer], maps: list[Tensor] | None) -> str:
    """The whole header. Every name begins with lk_ or LK_ until the last line."""
    parts, switches = _needed(layers)
    texts = [
        _about(network, layers),
        _declared(layers, maps is not None),
        "#ifdef LK_IMPLEMENTATION",
        _defined(switches | dict(HAS_PIXELS=int(maps is not None))),
        _sizes(layers),
        _engine("types"),
        "/* The network. */\n",
        *_payload(layers),
        *_layers(layers),
        *_score(layers[-1]),
        *_pixels(maps, layers[0].entering),
        *map(_engine, parts),
        "#endif\n",
    ]
    return re.sub(r"\bLK_", f"{name.upper()}_", re.sub(r"\blk_", f"{name}_", "\n".join(texts)))


def _needed(layers: list[Layer]) -> tuple[list[str], dict[str, int]]:
    """The parts of the engine that these layers need, in order, and the switches in them."""
    kinds = {layer.stored.layout for layer in layers}
    coders = {piece.coder for layer in layers for piece in (layer.stored.index, layer.stored.values)} - {"raw"}
    convolution = any(layer.integers.convolution is not None for layer in layers)
    context, symbols, ranges = "context" in kinds, bool(kinds - {"context"}), "range" in coders
    switches = dict(
        HAS_CONVOLUTION=convolution, HAS_CONTEXT=context, HAS_SYMBOLS=symbols, HAS_TABLES=bool(coders),
        HAS_HUFFMAN="huffman" in coders, HAS_RANGE=ranges,
    )  # fmt: skip
    parts = ["bytes", *["range", "reals"] * (context or ranges), "memory", "layers", *["symbols"] * symbols]
    return [*parts, *["context"] * context, "infer"], {key: int(value) for key, value in switches.items()}


def _engine(part: str) -> str:
    return resources.files("labkit.export").joinpath("engine", f"{part}.c").read_text()


def _defined(values: Mapping[str, object]) -> str:
    return "".join(f"#define LK_{key} {value}\n" for key, value in values.items())


def _about(network: IntegerNetwork, layers: list[Layer]) -> str:
    """The comment at the top."""
    grid, last = network.grid, cast(IntegerLayer, network.layers[-1])
    steps = [float(step) for step in last.step]
    step = f"{steps[0]!r}" if len(set(steps)) == 1 else f"{steps!r}, one per output"
    lines = [f"   {_table_row(layer)}" for layer in layers]
    return f"""/* A neural network, written by labkit: compressed weights, their decoder, inference in integers (C99).
   No memory is allocated, no library is called, and nothing uses floating point, the decoder neither.

   In one source file, #define LK_IMPLEMENTATION before this file is included. With LK_UNPACK defined, too, all
   weights are decoded once, at the first call, and stay in memory: faster, with more memory. The functions share
   memory: only one thread at a time may call them.

   Input: uint8, in the order channel, row, column. A float x becomes, in float32 and with halves to even,
       q = round(x * (1 / {float(grid.scale)!r})) + {int(grid.zero_point)}, at least 0 and at most {grid.quant_max}.
   Output: the sums of the last layer. A sum times {step} is the float logit.

   Layers: outputs x weights of each, layout in the .lk file, bytes. The weights of a streamed layer are used while
   they are decoded, and never stored.
{chr(10).join(lines)} */
"""


def _table_row(layer: Layer) -> str:
    said = re.sub(r"[^\w.]", "_", layer.name, flags=re.ASCII)  # a name could end the comment
    stored = layer.stored
    size = len(stored.index.raw) + len(stored.values.raw)
    return f"{said}: {layer.rows} x {layer.columns}, {stored.layout}, {size}{', streamed' if layer.streamed else ''}"


def _declared(layers: list[Layer], pixels: bool) -> str:
    """What whoever includes the header may use."""
    ram = [memory(layers, unpacked)["RAM"] for unpacked in (True, False)]
    payload = sum(len(piece.raw) for layer in layers for piece in (layer.stored.index, layer.stored.values))
    *_, last = layers
    text = f"""#ifndef LK_H
#define LK_H
#include <stdint.h>

#define LK_INPUTS {_numel(layers[0].entering)}
#define LK_LOGITS {_numel(last.pooled)}
#define LK_PAYLOAD {payload} /* bytes of compressed weights */
#ifdef LK_UNPACK
#define LK_RAM {ram[0]} /* bytes of memory that changes, besides the stack; at most, checked by the compiler */
#else
#define LK_RAM {ram[1]}
#endif

/* logits[LK_LOGITS] from input[LK_INPUTS] */
void lk_infer(const uint8_t *input, int32_t *logits);
/* the number of the largest logit, the first of equal ones */
int lk_classify(const uint8_t *input);
"""
    if pixels:
        text += """/* input[LK_INPUTS] from 8-bit pixels[LK_INPUTS] */
void lk_quantize(const uint8_t *pixels, uint8_t *input);
"""
    return text + "#endif\n"


def _numel(shape: Iterable[int]) -> int:
    return int(torch.Size(shape).numel())


def _sizes(layers: list[Layer]) -> str:
    """Sizes that differ with LK_UNPACK, and those that do not."""
    unpacked, streamed = (memory(layers, unpacked) for unpacked in (True, False))
    differ = [key for key in unpacked if unpacked[key] != streamed[key]]
    same = {key: value for key, value in streamed.items() if key not in differ} | dict(LAYERS=len(layers))
    first, second = ({key: sizes[key] for key in differ if key != "RAM"} for sizes in (unpacked, streamed))
    modes = [first | {"FIRST(n)": "n", "STREAMED(l)": 0}, second | {"FIRST(n)": 0, "STREAMED(l)": "(l)->streamed"}]
    return f"{_defined(same)}#ifdef LK_UNPACK\n{_defined(modes[0])}#else\n{_defined(modes[1])}#endif\n"


def _payload(layers: list[Layer]) -> list[str]:
    """The pieces of the file, one after another; C has no empty array."""
    raw = b"".join(bytes(piece.raw) for layer in layers for piece in (layer.stored.index, layer.stored.values))
    return [_array("uint8_t", "lk_payload", raw or b"\0")]


def _layers(layers: list[Layer]) -> list[str]:
    """The arrays of each layer, then the table of layers."""
    texts, rows, at, first = [], [], 0, 0
    for i, layer in enumerate(layers):
        fields = _shapes(layer) | _numbers(layer.integers)
        for key, (kind, values) in _arrays(layer.integers).items():
            texts.append(_array(kind, f"lk_{key}_{i}", values))
            fields[key] = f"lk_{key}_{i}"
        stored = layer.stored
        fields |= dict(layout=f"LK_{stored.layout.upper()}", turned=stored.turned, stride=stored.stride)
        fields |= dict(kept=layer.kept, lowest=stored.lowest, longest=stored.longest)
        for key, piece in (("index", stored.index), ("values", stored.values)):
            fields[key] = f"{{LK_{piece.coder.upper()}, {piece.bits}, {at}, {at + len(piece.raw)}}}"
            at += len(piece.raw)
        fields |= dict(streamed=int(layer.streamed), first=f"LK_FIRST({first})")
        first += layer.integers.weight.numel()
        inside = ", ".join(f".{key} = {value}" for key, value in fields.items() if value != 0)
        rows.append(_wrapped(f"{{{inside}}},"))
    return [*texts, "static const lk_layer lk_layers[LK_LAYERS] = {\n" + "".join(rows) + "};\n"]


def _shapes(layer: Layer) -> dict[str, object]:
    """Sizes, by the fields of lk_layer."""
    fields: dict[str, object] = dict(rows=layer.rows, columns=layer.columns)
    if (how := layer.integers.convolution) is not None:
        kernel, dilation = tuple(layer.integers.weight.shape[2:]), how["dilation"]
        pads = how["padding"]
        if isinstance(pads, str):  # "same" may need one more after the image than before it
            pads = [d * (k - 1) // 2 if pads == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        fields |= dict(groups=how["groups"]) | _two("kernel", kernel) | _two("stride", how["stride"])
        fields |= _two("pad", pads) | _two("dilation", dilation) | _two("in", layer.entering[1:])
    pool = layer.pool if isinstance(layer.pool, nn.MaxPool2d) else nn.MaxPool2d(1)
    fields |= _two("out", layer.leaving[1:]) | _two("pool", pool.kernel_size) | _two("pool_stride", pool.stride)
    return fields | _two("pool_pad", pool.padding) | _two("pooled", layer.pooled[1:])


def _two(name: str, values: object) -> dict[str, object]:
    return dict(zip((f"{name}_h", f"{name}_w"), _pair(values), strict=True))


def _numbers(layer: IntegerLayer) -> dict[str, object]:
    """Zero points and limits, by the fields of lk_layer."""
    if layer.next_grid is None:
        return dict(zero_in=layer.zero_in, low=0 if layer.relu else "INT32_MIN")
    numbers: dict[str, object] = dict(zero_in=layer.zero_in, zero_out=layer.zero_out, low=layer.low, high=layer.high)
    return numbers | dict(per_row=_per_row(layer))


def _arrays(layer: IntegerLayer) -> dict[str, tuple[str, list[object]]]:
    """Numbers per output, by the fields of lk_layer: their type in C and their values."""
    arrays: dict[str, tuple[str, list[object]]] = {}
    if layer.bias.any():
        arrays["bias"] = ("int32_t", layer.bias.tolist())
    if layer.next_grid is not None:
        n = len(layer.shift) if _per_row(layer) else 1
        arrays["multiplier"] = ("uint32_t", [f"{m}u" for m in layer.multiplier[:n].tolist()])
        arrays["shift"] = ("uint8_t", layer.shift[:n].tolist())
    return arrays


def _per_row(layer: IntegerLayer) -> int:
    """1 if the rows are requantized by different factors."""
    return int(not bool((layer.multiplier == layer.multiplier[0]).all() and (layer.shift == layer.shift[0]).all()))


def _array(kind: str, name: str, values: Iterable[object]) -> str:
    numbers = [str(value) for value in values]
    per_line = 20 if kind == "uint8_t" else 8
    lines = [", ".join(numbers[i : i + per_line]) for i in range(0, len(numbers), per_line)]
    return f"static const {kind} {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(lines) + "};\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ") + "\n"


def _score(layer: Layer) -> list[str]:
    """How `lk_classify` compares sums: as they are, or times a step of 31 bits, if the outputs have different ones."""
    steps = layer.integers.step
    if (steps == steps[0]).all():
        return ["#define LK_SCORE(i) logits[i]\n"]
    scaled = (steps / steps.max() * 2.0**31).round().long()
    return [
        _array("uint32_t", "lk_steps", [f"{step}u" for step in scaled.tolist()])
        + f"#define LK_SCORE(i) ((int64_t)logits[i] * (int64_t)lk_steps[(i) / {layer.map}])\n"
    ]


def pixel_maps(grid: Grid, shape: tuple[int, ...], mean: Tensor, std: Tensor) -> list[Tensor]:
    """For each channel, the input that stands for each pixel 0 … 255; a single map if the channels have the same."""
    _check.filled(mean=mean, std=std)
    if mean.numel() != std.numel() or mean.numel() not in (1, shape[0]):
        raise ValueError(
            f"pixels has {mean.numel()} means and {std.numel()} standard deviations; allowed: 1 or {shape[0]} of each"
        )
    x = (torch.arange(256) / 255 - mean.reshape(-1, 1)) / std.reshape(-1, 1)
    _check.finite("pixels, for some pixel,", x)
    return list(to_integers(x, grid))


def _pixels(maps: list[Tensor] | None, shape: tuple[int, ...]) -> list[str]:
    """The inputs that stand for pixels."""
    if maps is None:
        return []
    if all(values.equal(torch.arange(256, dtype=torch.uint8)) for values in maps):
        return ["#define LK_PIXEL(i, pixel) pixel /* the grid of the input is that of pixels */\n"]
    if all(values.equal(maps[0]) for values in maps):
        maps = maps[:1]
    table = _array("uint8_t", "lk_pixels", torch.cat(maps).tolist())
    plane = _numel(shape) // len(maps)
    return [table + f"#define LK_PIXEL(i, pixel) lk_pixels[(i) / {plane} * 256 + (pixel)]\n"]
