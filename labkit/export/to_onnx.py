"""A network as one ONNX file that holds labkit's own integers (https://onnx.ai; opset 21), and its outputs.

torch's exporter writes the graph of a copy whose quantized weights and inputs write ONNX operators (module `nodes`).
Then constants are folded, but never a tensor of the model, and the notes of the exporter are removed.
"""

import contextlib
import functools
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labkit import _check
from labkit._files import replace
from labkit._module import clone, running
from labkit.compress import _weights
from labkit.compress.parts import Part, assemble, parts
from labkit.export.nodes import OPSET, narrow_tensors, saturating_layers, write_operators
from labkit.export.processor import has_vnni

BATCH = 1_000  # examples per run of onnxruntime
IDLE = 60  # seconds after which the process that exports for others ends


def onnx(model: nn.Module, example: Tensor, path: str | Path) -> Path:
    """Write `model`, in evaluation mode, as one ONNX file of opset 21, atomically.

    Quantized weights are integers of 8 or 4 bits with a DequantizeLinear, shared weights indices with a Gather; rounded
    inputs become a QuantizeLinear and a DequantizeLinear. A zero takes as much space as any other weight: only
    `prune_channels` makes the file smaller. BatchNorm becomes part of a float convolution before it.

    Args:
        model: float32; dense, pruned, quantized or shared.
        example: inputs (n, …), n ≥ 1, that the model takes. In the file the first axis may have any length; the others
            have these sizes.
        path: where to write.

    Returns:
        The path.

    Raises:
        ValueError: names a tensor that is not float32 or trains for a grid, or says why the model cannot be exported:
            it does not run on `example`, does not return one tensor with a row per example, or does something that
            torch's exporter or ONNX does not know.

    Warns:
        UserWarning: sums of products of activations and weights can exceed 16 bits, which an x86 processor without
            VNNI clamps (docs/processors.md).

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> path = lk.export.onnx(lk.quantize(model, bits=4), data.test.x, "net.onnx")
        >>> outputs = lk.export.onnx_outputs(path, data.test.x)
        >>> torch.allclose(outputs, lk.quantize(model, bits=4)(data.test.x), atol=1e-5)
        True
    """
    _check.kind(nn.Module, model=model)
    _check.filled(example=example)
    _check.kind(str | Path, path=path)
    for name, part in parts(model).items():
        if part.dtype.is_complex or (part.dtype.is_floating_point and part.dtype != torch.float32):
            raise ValueError(f"{name} is {part.dtype}; allowed: torch.float32, which model.float() gives")
    network = clone(_weights.opened(model)).eval()
    two = torch.cat([example, example])[:2]  # torch's exporter takes a length of 1 for fixed
    _check_run(network, two)
    _warn(saturating_layers(network))
    replace(path, [_serialized(network, two)])
    return Path(path)


def onnx_outputs(path: str | Path, x: Tensor, *, optimize: bool = False) -> Tensor:
    """What onnxruntime computes from the ONNX file at `path`.

    Args:
        path: a file that `onnx` wrote.
        x: inputs (n, …), n ≥ 1.
        optimize: False: every operator as the file states it, in floats, as labkit computes it. True: as onnxruntime
            runs it by default, with integer kernels where it finds a match. For these it rounds biases to int32, and
            also activations that the file does not round; an x86 processor without VNNI may clamp their sums.

    Returns:
        The outputs, one row per input. Without `optimize` they equal labkit's but for the order of sums, about 1e-5; an
        activation that this moves across the middle between two levels is rounded to the other level.

    Raises:
        ValueError: onnxruntime cannot read the file or run it on x.

    Example:
        >>> model, x = lk.models.mlp(64, 32, 10), lk.load_data("digits").test.x
        >>> outputs = lk.export.onnx_outputs(lk.export.onnx(model, x, "net.onnx"), x)
        >>> torch.allclose(outputs, model(x), atol=1e-5)
        True
    """
    _check.kind(str | Path, path=path)
    _check.filled(x=x)
    _check.flags(optimize=optimize)
    file = Path(path).read_bytes()
    try:
        session = session_of(file, optimize)
        entering = session.get_inputs()[0].name
        outputs = [session.run(None, {entering: part.numpy()})[0] for part in x.detach().split(BATCH)]
    except Exception as error:  # onnxruntime's exceptions have no class in common
        said = f"{path} does not run on x of the shape {tuple(x.shape)} and the dtype {x.dtype}"
        raise ValueError(f"{said}; onnxruntime says: {error}") from error
    return torch.cat([torch.from_numpy(output) for output in outputs])


def session_of(file: bytes, optimize: bool, threads: int = 0) -> Any:
    """An onnxruntime session for the bytes of an ONNX file; with 0 threads it chooses their number."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options)


def _check_run(network: nn.Module, two: Tensor) -> None:
    with torch.no_grad(), running(network, "example", two):
        output = network(two)
    name = type(network).__name__
    if not isinstance(output, Tensor):
        raise ValueError(f"model {name} returns a {type(output).__name__}; allowed: one tensor")
    if output.shape[:1] != (2,):
        raise ValueError(f"model {name} returns the shape {tuple(output.shape)} for 2 examples; allowed: (2, …)")


def _warn(layers: list[str]) -> None:
    if layers:
        here = {True: "this one has VNNI", False: "this one has no VNNI", None: "of this one it is unknown"}[has_vnni()]
        warnings.warn(
            f"{', '.join(layers)}: sums of uint8 activations times int8 weights can exceed 16 bits, which onnxruntime "
            f"clamps on an x86 processor without VNNI ({here}); the remedies: 7-bit or affine weights, or the "
            "session option session.x64quantprecision = 1 (docs/processors.md)",
            stacklevel=3,
        )


def _serialized(network: nn.Module, two: Tensor) -> bytes:
    """The file. In a process of its own where other threads run, in a notebook say.

    torch's exporter changes global state while it traces, and a forward pass in another thread then fails at random.
    """
    if threading.active_count() == 1:
        return _exported(network, two)
    # torch cannot pickle a module that computes its weights: its parts and the plain module travel apart
    try:
        return _other_process().submit(_reassembled, _weights.plain(network), parts(network), two).result()
    except BrokenExecutor:  # it was killed: the next export begins another
        _other_process.cache_clear()
        raise


@functools.cache
def _other_process() -> Any:
    from joblib.externals.loky import ProcessPoolExecutor  # pickles classes that a notebook defines, too

    return ProcessPoolExecutor(max_workers=1, timeout=IDLE)


def _reassembled(plain: nn.Module, stored: dict[str, Part], two: Tensor) -> bytes:
    return _exported(assemble(plain, stored).eval(), two)


def _exported(network: nn.Module, two: Tensor) -> bytes:
    write_operators(network)
    from onnx import checker
    from onnxscript import optimizer, rewriter

    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                network, (two,), dynamo=True, opset_version=OPSET, optimize=False, verbose=False,
                input_names=["input"], output_names=["output"], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
            graph = program.model.graph
            ours = set(graph.initializers)
            _narrow(graph, narrow_tensors(network))
            optimizer.fold_constants_ir(program.model, should_fold=lambda node: False if _reads(node, ours) else None)
            rewriter.rewrite(program.model)
            proto = program.model_proto
            _tidy(proto)
            checker.check_model(proto, full_check=True)
            if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
                raise ValueError("its forward fixes the number of examples")
    except Exception as error:
        raise ValueError(f"model {type(network).__name__} cannot be exported: {_reason(error)}") from error
    return proto.SerializeToString(deterministic=True)


def _reads(node: Any, names: set[str]) -> bool:
    return any(value is not None and value.name in names for value in node.inputs)


def _narrow(graph: Any, names: set[str]) -> None:
    """Store the named tensors as integers of 4 bits."""
    import onnx_ir

    for name in names & set(graph.initializers):
        value = graph.initializers[name]
        wide = value.const_value.numpy()
        kind = onnx_ir.DataType.INT4 if wide.dtype.kind == "i" else onnx_ir.DataType.UINT4
        value.const_value = onnx_ir.tensor(wide.astype(kind.numpy()), dtype=kind, name=name)
        value.dtype = kind


def _tidy(proto: Any) -> None:
    """Remove notes and intermediate shapes; a weight has its own name: "fc1.weight", "fc1.weight.scale"."""
    graph = proto.graph
    del graph.value_info[:], graph.metadata_props[:]
    for item in [*graph.node, *graph.initializer, *graph.input, *graph.output]:
        del item.metadata_props[:]
        item.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.name = _own_name(tensor.name)
    for node in graph.node:
        node.input[:] = [_own_name(name) for name in node.input]


def _own_name(name: str) -> str:
    return re.sub(r"parametrizations\.(\w+)\.(original|0)", r"\1", name).removesuffix(".original")


def _reason(error: BaseException) -> str:
    """The first line of the error that began it all: the exporter's own message is a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{error}".strip().partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter logs about packages that it does not need and about its own code."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # for all loggers: those of torch have levels of their own
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
