"""Out of the lab: a network as an ONNX file or as a C header, each checked against labkit's own outputs.

path = onnx(model, example, "net.onnx")       onnx_outputs(path, x)       has_vnni()
path = c(model, example, "net.h")                size_table(model, example)
"""

from labkit.export.processor import has_vnni
from labkit.export.sizes import size_table
from labkit.export.to_c import c
from labkit.export.to_onnx import onnx, onnx_outputs

__all__ = ["c", "has_vnni", "onnx", "onnx_outputs", "size_table"]
