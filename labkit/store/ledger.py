"""Where the bytes of a model's file go, and how it compares with theory and with other files."""

import gzip
import io
import math
from collections.abc import Collection
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import _check
from labkit._module import unwrapped
from labkit.compress.parts import input_quantizers, parts
from labkit.store.coding import QUICK
from labkit.store.file import encode, entries
from labkit.store.kinds import FORMATS
from labkit.store.packed import INDEX, VALUES

COMPONENTS = (
    VALUES, INDEX, "scales", "codebook", "biases", "BatchNorm", "input quantizers", "header"
)  # fmt: skip
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def ledger(model: nn.Module, coders: Collection[str] = QUICK) -> pd.DataFrame:
    """Every byte of the file of `model`, one row per tensor and component.

    Args:
        model: a float, pruned, quantized or shared network.
        coders: the coders that may be used (see `encode`).

    Returns:
        A table with the columns name, component, coder, bytes. The rows sum to `len(encode(model, coders))`: the
        encoder records them while it writes. `component` is one of COMPONENTS: "values" and "mask or indices" of
        weights (two or more dimensions); "scales", with the zero points; "codebook", the centroids of shared weights;
        "biases", with all other vectors; "BatchNorm", with LayerNorm and similar; "input quantizers"; "header", with
        the checksum. `coder` is the layout, then how the bytes are coded.

    Raises:
        ValueError: as in `encode`.

    Example:
        >>> model = lk.quantize(lk.models.mlp(64, 32, 10), bits=4)
        >>> table = lk.ledger(model)
        >>> int(table["bytes"].sum()) == len(lk.encode(model))
        True
        >>> sorted(set(table["component"]))
        ['biases', 'header', 'scales', 'values']
    """
    return encode_with_ledger(model, coders)[1]


def encode_with_ledger(model: nn.Module, coders: Collection[str] = QUICK) -> tuple[bytes, pd.DataFrame]:
    """The file and its ledger, in one pass."""
    written, kinds = entries(model, coders), _kinds(model)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in written:
        # scales and codebooks are counted as such wherever they are
        component = kinds.get(entry.name, entry.component) if entry.component in (VALUES, INDEX) else entry.component
        empty = dict(name=entry.name, component=component, coder=[], bytes=0)
        row = rows.setdefault((entry.name, component), empty)
        row["coder"].append(entry.coder)
        row["bytes"] += len(entry.raw)
    table = pd.DataFrame([row | dict(coder="; ".join(dict.fromkeys(row["coder"]))) for row in rows.values()])
    return b"".join(entry.raw for entry in written), table


def _kinds(model: nn.Module) -> dict[str, str]:
    """The component of each tensor that is not a weight."""
    model = unwrapped(model)
    norms = {name for name, module in model.named_modules() if isinstance(module, _NORMS)}
    kinds, rounding = {}, input_quantizers(model)
    for name, part in parts(model).items():
        if name.rpartition(".")[0] in rounding:
            kinds[name] = "input quantizers"
        elif name.rpartition(".")[0] in norms:
            kinds[name] = "BatchNorm"
        elif part.kind == "tensor" and len(part.shape) < 2:
            kinds[name] = "biases"
    return kinds


def size_table(model: nn.Module) -> pd.DataFrame:
    """The file of `model` compared with theory and other files of the same values, one row each.

    Args:
        model: a float, pruned, quantized or shared network.

    Returns:
        A table with the columns what, bytes. "theory" is the entropy of independent symbols: for each tensor
        n · H(share of zeros) for the mask plus the entropy of its non-zero values (32 bits each for floats),
        without any header. Our file may be smaller where zeros cluster.

    Raises:
        ValueError: as in `encode`.

    Example:
        >>> model = lk.models.mlp(64, 32, 10)
        >>> table = lk.size_table(model)
        >>> int(table["bytes"].iloc[0]) == len(lk.encode(model)), int(table["bytes"].iloc[-1])  # ours, raw float32
        (True, 9640)
    """
    _check.kind(nn.Module, model=model)
    model = unwrapped(model)
    rounding = input_quantizers(model)
    every = parts(model)
    stored = {name: part for name, part in every.items() if name.rpartition(".")[0] not in rounding}
    buffers = {name for name, _ in model.named_buffers()}
    raw = b"".join(part.floats().float().cpu().contiguous().numpy().tobytes() for part in stored.values())
    theory = sum(FORMATS[part.kind].theory_bits(part) for part in every.values())
    sizes = {
        "labkit file": len(encode(model)),
        "theory: entropy of mask and values": math.ceil(theory / 8),
        "torch.save of the state_dict": _torch_size(model),
        "gzip of raw float32": len(gzip.compress(raw, mtime=0)),
        "raw float32, 4 bytes a parameter": sum(4 * v.shape.numel() for k, v in stored.items() if k not in buffers),
    }
    return pd.DataFrame({"what": list(sizes), "bytes": list(sizes.values())})


def compression_ratio(dense_model: nn.Module, model: nn.Module) -> float:
    """The float file ÷ our file: len(encode(dense_model)) / len(encode(model)).

    Args:
        dense_model: the network before compression.
        model: the network after it.

    Returns:
        A number above 0: 10 means that a tenth of the bytes is left.

    Raises:
        ValueError: as in `encode`.

    Example:
        >>> model = lk.models.mlp(64, 32, 10)
        >>> lk.compression_ratio(model, model), lk.compression_ratio(model, lk.prune(model, sparsity=0.9)) > 4
        (1.0, True)
    """
    _check.kind(nn.Module, dense_model=dense_model, model=model)
    return len(encode(dense_model)) / len(encode(model))


def _torch_size(model: nn.Module) -> int:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()
