"""The file sizes of a network: labkit's own file and what other programs read, side by side."""

import tempfile
import warnings
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from labkit import store
from labkit.export.to_onnx import onnx


def size_table(model: nn.Module, example: Tensor) -> pd.DataFrame:
    """`lk.size_table` with one more row, "ONNX file".

    Args:
        model: as in `onnx`.
        example: inputs (n, …) that the model takes, as in `onnx`.

    Returns:
        A table with the columns what, bytes; the files first.

    Raises:
        ValueError: as in `onnx` and `lk.encode`.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> lk.export.size_table(lk.prune(model, 0.9), data.test.x)["what"].tolist()[:2]
        ['labkit file', 'ONNX file']
    """
    table = store.size_table(model)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how a processor runs the file does not matter here
        size = onnx(model, example, Path(folder) / "network.onnx").stat().st_size
    row = pd.DataFrame({"what": ["ONNX file"], "bytes": [size]})
    return pd.concat([table[:1], row, table[1:]], ignore_index=True)
