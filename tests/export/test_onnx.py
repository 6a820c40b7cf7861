"""The ONNX file: onnxruntime's outputs are labkit's, and the integers in it are those of labkit's own parts.

Outputs are compared with every operator run as the file states it, which does not depend on the processor. Integer
kernels are compared where they cannot saturate (docs/processors.md), with the integer network of labkit.
"""

import subprocess
import sys
import threading
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

import labkit as lk
from labkit import export
from labkit._module import evaluating
from labkit.compress.parts import Quantized, Shared, parts
from labkit.export import processor
from labkit.export.nodes import saturating_layers
from tests.unlabelled import unlabelled

WIDE, NARROW = {TensorProto.INT8, TensorProto.UINT8}, {TensorProto.INT4, TensorProto.UINT4}
SUMS = 1e-4  # float sums in another order: 2e-5 was the most that we saw


def calibrated(model, images, bits=8, activation_bits=8, **how):
    return lk.quantize(model, bits, activation_bits=activation_bits, calibration=unlabelled(images), **how)


def exported(model, x, folder):
    """The file's path and its content; warnings of saturation are not of interest here."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        path = export.onnx(model, x, folder / "net.onnx")
    assert [f.name for f in folder.iterdir()] == ["net.onnx"]
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 21)]
    assert not any(tensor.data_location or tensor.external_data for tensor in proto.graph.initializer)
    return path, proto


def initializers(proto):
    return {tensor.name: tensor for tensor in proto.graph.initializer}


def check_weights(model, proto):
    """Every compressed weight is in the file as its integers, in as few bits as the format has, and on its grid."""
    stored = initializers(proto)
    compressed = {name: part for name, part in parts(model).items() if isinstance(part, Quantized | Shared)}
    assert compressed
    for name, part in compressed.items():
        values = numpy_helper.to_array(stored[name])
        if isinstance(part, Shared):
            table = numpy_helper.to_array(stored[f"{name}.table"])
            assert stored[name].data_type in (NARROW if len(table) <= 16 else WIDE | {TensorProto.INT16})
            assert np.array_equal(table[values.astype(int)], part.floats())
            continue
        assert stored[name].data_type in (NARROW if part.grid.bits <= 4 else WIDE)
        assert np.array_equal(values.astype(int).reshape(part.shape), part.q)
        assert np.array_equal(numpy_helper.to_array(stored[f"{name}.scale"]).ravel(), part.grid.scale.ravel())
        zero_point = stored[f"{name}.zero_point"]
        assert zero_point.data_type == stored[name].data_type
        assert np.array_equal(numpy_helper.to_array(zero_point).astype(int).ravel(), part.grid.zero_point.ravel())
    assert {tensor.data_type for tensor in proto.graph.initializer if tensor.name in compressed} <= {
        *WIDE, *NARROW, TensorProto.INT16
    }  # fmt: skip


def outputs_of(model, x):
    """What labkit computes, in evaluation mode."""
    with torch.no_grad(), evaluating(model):
        return torch.cat([model(part) for part in x.split(1_000)])


def check_close(model, path, x, tolerance=SUMS):
    torch.testing.assert_close(export.onnx_outputs(path, x), outputs_of(model, x), atol=tolerance, rtol=0)


# every kind of weight, on a small network


def small_net():
    """A convolution and two linear layers for the 8×8 digits; its rows have 9, 72 and 16 entries."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 10)
    return nn.Sequential(*layers)


WEIGHTS = {
    "8 bits": lambda m: lk.quantize(m, 8),
    "8 bits, affine, per channel": lambda m: lk.quantize(m, 8, symmetric=False, granularity="channel"),
    "5 bits": lambda m: lk.quantize(m, 5),
    "4 bits": lambda m: lk.quantize(m, 4),
    "4 bits, affine, per channel": lambda m: lk.quantize(m, 4, symmetric=False, granularity="channel"),
    "4 bits, in groups": lambda m: lk.quantize(m, 4, granularity="group", group_size=8, layers=["3", "5"]),
    "8 bits, affine, groups over two axes": lambda m: lk.quantize(
        m, 8, symmetric=False, granularity="group", group_size=3, layers=["0", "3.weight"]
    ),
    "groups of one": lambda m: lk.quantize(m, 3, granularity="group", group_size=1),
    "1 bit, a sign": lambda m: lk.quantize(lk.prune(m, 0.3), 1),
    "1 bit, affine": lambda m: lk.quantize(m, 1, symmetric=False),
    "shared, 4 bits": lambda m: lk.share_weights(m, 4),
    "shared, 4 bits and zeros": lambda m: lk.share_weights(lk.prune(m, 0.5), 4),
    "shared, 256 values": lambda m: lk.share_weights(m, 8, layers=["3"]),
    "shared, 256 values and zeros": lambda m: lk.share_weights(lk.prune(m, 0.5), 8, layers=["3"]),
    "mixed": lambda m: lk.quantize(lk.quantize(m, 4, layers=["0"]), 8, layers=["3"]),
}


@pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
def test_integers_and_outputs_are_those_of_labkit(make, digits, tmp_path):
    model = make(small_net())
    path, proto = exported(model, digits.test.x, tmp_path)
    check_weights(model, proto)
    check_close(model, path, digits.test.x, 1e-5)


def test_a_transposed_convolution_has_its_channels_on_axis_1(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(3, 1, 2), nn.Flatten())
    model, x = lk.quantize(net, 8, granularity="channel"), torch.randn(5, 2, 4, 4)
    path, proto = exported(model, x, tmp_path)
    axes = [[a.i for a in node.attribute if a.name == "axis"] for node in proto.graph.node if node.op_type[:2] == "De"]
    assert axes == [[1], []]  # the second layer has one output channel, so one scale
    check_weights(model, proto)
    check_close(model, path, x, 1e-5)


def test_a_weight_that_two_layers_share_is_stored_once(tmp_path):
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    net[2].weight = net[0].weight
    model, x = lk.quantize(net, 8), torch.randn(5, 8)
    path, proto = exported(model, x, tmp_path)
    assert len([name for name in initializers(proto) if name.endswith("weight")]) == 1
    check_close(model, path, x, 1e-5)


def test_a_weight_that_another_library_computes_is_a_plain_one(tmp_path):
    model, x = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)).eval(), torch.randn(5, 8)
    path, proto = exported(model, x, tmp_path)
    assert set(initializers(proto)) == {"weight", "bias"}
    check_close(model, path, x, 1e-5)


@pytest.mark.slow
def test_the_file_has_a_free_batch_axis_no_notes_and_the_same_bytes_again(digits, tmp_path):
    model = lk.quantize(small_net(), 4)
    path, proto = exported(model, digits.test.x[:1], tmp_path)
    batch, *rest = [dim.dim_param or dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    assert (batch, rest) == ("batch", [1, 8, 8])
    for n in (1, 2, 7, 300):
        check_close(model, path, digits.test.x[:n], 1e-5)
    raw = path.read_bytes()
    assert b"stack_trace" not in raw
    assert b".py" not in raw
    export.onnx(model, digits.test.x, path)
    assert path.read_bytes() == raw


def test_the_input_is_not_changed_and_evaluation_mode_is_exported(tmp_path):
    torch.manual_seed(0)
    model = lk.quantize(lk.models.mlp(64, 32, 10, dropout=0.5), 8).train()
    x, before = torch.randn(5, 64), {k: v.clone() for k, v in model.state_dict().items()}
    path, _ = exported(model, x, tmp_path)
    assert model.training
    assert all(part.training for part in model.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    check_close(model.eval(), path, x, 1e-5)


# rounded activations


def outputs_of_every_layer(path, proto, x):
    """{name of an input quantizer: what it gives}, each operator run as the file states it."""
    ends = [n for n in proto.graph.node if n.op_type == "DequantizeLinear" and ".input_quantizer." in n.input[1]]
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT, None) for n in ends)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options)
    found = session.run([n.output[0] for n in ends], {"input": x.numpy()})
    return {n.input[1].removesuffix(".scale"): torch.from_numpy(v) for n, v in zip(ends, found, strict=True)}


@pytest.mark.parametrize("bits", [8, 6, 4, 1])
def test_activations_are_on_their_grid_and_nearly_all_on_the_same_level(bits, digits, trained, tmp_path):
    model = calibrated(trained, digits.train.x, activation_bits=bits, percentile=99.0)  # clips: large values clamp
    path, proto = exported(model, digits.test.x, tmp_path)
    seen = {}
    for name, layer in model.named_modules():
        if name.endswith("input_quantizer"):
            layer.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    outputs_of(model, digits.test.x)
    found = outputs_of_every_layer(path, proto, digits.test.x)
    assert found.keys() == seen.keys() == {"1.input_quantizer", "3.input_quantizer"}
    for name, values in found.items():
        grid = model.get_submodule(name).grid
        q, expected = ((v / grid.scale + grid.zero_point).round() for v in (values, seen[name]))
        assert (q.min(), q.max()) == (expected.min(), expected.max())
        assert q.max() == 2**bits - 1
        off = (q - expected).abs()
        assert off.max() <= 1
        assert (off > 0).double().mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5"])
def test_10_000_images_through_the_integer_kernels_agree_with_the_integer_network(name, tmp_path):
    data = lk.load_data("mnist")
    model = calibrated(lk.load_model(name, "mnist"), data.train.x[:256], 7, granularity="channel")
    path, proto = exported(model, data.test.x, tmp_path)
    check_weights(model, proto)
    x = data.test.x
    assert len(x) == 10_000
    simulated, integers = outputs_of(model, x), outputs_of(lk.integer_only(model), x)
    plain, merged = (export.onnx_outputs(path, x, optimize=how) for how in (False, True))
    # one level of one activation moves a logit by at most 0.1; on average the differences are tiny
    assert (plain - simulated).abs().max() < 0.3
    assert (plain - simulated).abs().mean() < 1e-3
    assert (merged - integers).abs().max() < 0.3
    assert (merged - integers).abs().mean() < 1e-2
    for outputs in (plain, merged):
        assert (outputs.argmax(1) == simulated.argmax(1)).double().mean() > 0.999


# the trained networks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5"])
def test_10_000_images_agree_and_only_fewer_bits_or_units_make_the_file_smaller(name, tmp_path):
    data, dense = lk.load_data("mnist"), lk.load_model(name, "mnist")
    x, sizes = data.test.x, {}
    assert len(x) == 10_000
    thin = lk.prune_channels(dense, 0.5, example=x[:1])
    kinds = {"dense": dense, 8: lk.quantize(dense, 8), 4: lk.quantize(dense, 4, granularity="channel"), "thin": thin}
    for kind, model in kinds.items():
        folder = tmp_path / str(kind)
        folder.mkdir()
        path, proto = exported(model, x, folder)
        check_close(model, path, x)
        assert (export.onnx_outputs(path, x, optimize=True).argmax(1) == outputs_of(model, x).argmax(1)).all()
        sizes[kind] = path.stat().st_size
        if kind == "thin":
            for weight, value in thin.named_parameters():
                assert tuple(initializers(proto)[weight].dims) == value.shape
    assert sizes["thin"] < 0.6 * sizes["dense"]
    assert 0.24 < sizes[8] / sizes["dense"] < 0.27
    assert 0.12 < sizes[4] / sizes["dense"] < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data_name"),
    [
        ("resnet-20", "cifar10"),
        ("mobilenet", "cifar10"),
        ("vit", "fashion-mnist"),
        ("char-transformer", "shakespeare"),
    ],
)
def test_larger_networks_agree(name, data_name, tmp_path):
    data, dense = lk.load_data(data_name), lk.load_model(name, data_name)
    x = data.test.x[:300]
    rounded = calibrated(dense, data.train.x[:100], 7)
    for kind, model in {
        "dense": dense, "8": lk.quantize(dense, 8, granularity="channel"), "4": lk.quantize(dense, 4, symmetric=False),
        "thin": lk.quantize(lk.prune_channels(dense, 0.3, example=x[:2]), 8), "rounded": rounded,
    }.items():  # fmt: skip
        (tmp_path / kind).mkdir()
        path, proto = exported(model, x, tmp_path / kind)
        if kind != "dense":
            check_weights(model, proto)
        if kind != "rounded":
            check_close(model, path, x)
            continue
        outputs, expected = export.onnx_outputs(path, x), outputs_of(model, x)  # a level that differs has consequences
        assert (outputs - expected).abs().mean() < 0.01 * expected.std()
        assert (outputs.argmax(1) == expected.argmax(1)).double().mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_agrees(kind, tmp_path):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.fc = kind(6, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.layer(x)[0][:, -1])

    torch.manual_seed(0)
    model, x = lk.quantize(Recurrent(), 4, granularity="channel"), torch.randn(5, 4, 6)
    path, proto = exported(model, x, tmp_path)
    check_weights(model, proto)
    check_close(model, path, x, 1e-5)


@pytest.mark.slow
def test_attention_of_torch_agrees(tmp_path):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    model, x = lk.quantize(nn.Sequential(layer, nn.Flatten(), nn.Linear(48, 3)), 8).eval(), torch.randn(5, 3, 16)
    path, proto = exported(model, x, tmp_path)
    check_weights(model, proto)
    check_close(model, path, x, 1e-5)


# saturation


def strongest(weight, activation_bits=8, symmetric=True):
    """A layer whose largest weight becomes the integer `weight`, with its input rounded."""
    layer = nn.Linear(4, 2, bias=False)
    layer.weight = nn.Parameter(torch.full((2, 4), float(weight)) / 127.5)
    layer.weight.data[0, 0] = -1  # absmax 1: the scale is 1 / 127.5
    return calibrated(nn.Sequential(layer), torch.rand(5, 4), 8, activation_bits, symmetric=symmetric)


def test_a_warning_names_the_layers_whose_sums_can_exceed_16_bits(digits, trained, tmp_path):
    model = calibrated(trained, digits.train.x)
    with pytest.warns(UserWarning, match=r"^1, 3: sums of uint8 activations .* session\.x64quantprecision = 1 "):
        export.onnx(model, digits.test.x, tmp_path / "net.onnx")
    assert saturating_layers(strongest(100)) == ["0"]
    for harmless in (
        strongest(100, activation_bits=7),  # 2 · 127 · 128 = 32,512
        strongest(100, symmetric=False),
        calibrated(trained, digits.train.x, bits=7),  # 2 · 255 · 64 = 32,640
        lk.quantize(trained, 8),
    ):
        assert saturating_layers(harmless) == []


@pytest.mark.slow
def test_what_the_warning_says_happens_without_vnni_and_the_remedies_help(tmp_path):
    """The largest activations and weights: 64 inputs, each 1, times weights of 1, in 8 bits."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))
    for layer in (net[0], net[2]):
        layer.weight.data.fill_(1.0)
    x = torch.ones(3, 64)
    off = {}
    for bits, symmetric in ((8, True), (7, True), (8, False)):
        model = calibrated(net, torch.rand(5, 64).round(), bits, symmetric=symmetric)
        path, _ = exported(model, x, tmp_path)
        expected = outputs_of(model, x)
        assert (export.onnx_outputs(path, x) - expected).abs().max() < 1e-3 * expected.max()
        off[bits, symmetric] = (export.onnx_outputs(path, x, optimize=True) - expected).abs().max() / expected.max()
    assert off[7, True] < 0.01
    assert off[8, False] < 0.01
    if export.has_vnni():
        assert off[8, True] < 0.01  # without it we saw 0.49, and on other systems nothing is known


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("processor : 0\nflags : avx2 avx_vnni fma\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: asimd asimddp\n", None),
        (None, None),
    ],
)
def test_vnni_is_read_from_the_flags(lines, answer, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    if lines is not None:
        (tmp_path / "cpuinfo").write_text(lines)
    assert export.has_vnni() is answer


# refusals


class Odd(nn.Module):
    """A linear layer, and what `forward` makes of it."""

    def __init__(self, does):
        super().__init__()
        self.fc, self.does = nn.Linear(4, 4), does

    def forward(self, x):
        return self.does(self.fc(x))


def test_what_cannot_be_exported_is_refused_by_name(refuses, tmp_path):
    x, path, fc = torch.randn(5, 4), tmp_path / "net.onnx", nn.Linear(4, 3)
    message = "weight is torch.float16; allowed: torch.float32, which model.float() gives"
    refuses(ValueError, message, export.onnx, nn.Linear(4, 3).half(), x, path)
    message = "0.weight trains for a grid; a file holds what finish_qat makes of it"
    refuses(ValueError, message, export.onnx, lk.prepare_qat(nn.Sequential(fc), 4), x, path)
    message = "model Odd returns a dict; allowed: one tensor"
    refuses(ValueError, message, export.onnx, Odd(lambda y: {"logits": y}), x, path)
    message = "model Odd returns the shape (4,) for 2 examples; allowed: (2, …)"
    refuses(ValueError, message, export.onnx, Odd(lambda y: y.sum(0)), x, path)
    message = (
        "example has the shape (2, 5) and the dtype torch.float32; model Linear does not run on that: "
        "mat1 and mat2 shapes cannot be multiplied (2x5 and 4x3)"
    )
    refuses(ValueError, message, export.onnx, fc, torch.randn(5, 5), path)
    message = "model Odd cannot be exported: its forward fixes the number of examples"
    refuses(ValueError, message, export.onnx, Odd(lambda y: y.reshape(2, 4)), x, path)
    message = "path is a int; allowed: a text or a pathlib.Path"
    refuses(TypeError, message, export.onnx, fc, x, 3)
    refuses(TypeError, "example is a list; allowed: a torch.Tensor", export.onnx, fc, [1.0], path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (lambda y: y if y.sum() > 0 else -y, "data-dependent"),
        (lambda y: torch.linalg.svdvals(y[:, None]), "No ONNX function found for .*svd"),
    ],
    ids=["branch", "operator"],
)
def test_torchs_reason_is_told_in_one_sentence(does, reason, tmp_path):
    with pytest.raises(ValueError, match=f"^model Odd cannot be exported: .*{reason}") as caught:
        export.onnx(Odd(does), torch.randn(5, 4), tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_outputs_of_a_file_that_does_not_fit_are_refused(tmp_path):
    path, _ = exported(nn.Linear(4, 3), torch.randn(5, 4), tmp_path)
    with pytest.raises(ValueError, match=r"does not run on x of the shape \(5, 5\) .* onnxruntime says: "):
        export.onnx_outputs(path, torch.randn(5, 5))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="onnxruntime says: "):
        export.onnx_outputs(path, torch.randn(5, 4))
    with pytest.raises(FileNotFoundError):
        export.onnx_outputs(tmp_path / "none.onnx", torch.randn(5, 4))


def test_importing_the_export_loads_no_onnx():
    ask = "import sys, labkit.export; print([m for m in ('onnx', 'onnxscript', 'onnxruntime') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_process_of_its_own_writes_the_same_bytes(tmp_path, monkeypatch):
    digits = lk.load_data("digits")
    model = lk.quantize(lk.models.mlp(64, 32, 10), 4, activation_bits=8, calibration=lk.data.take(digits.train, 64))
    files = []
    for threads in (1, 2):
        monkeypatch.setattr(threading, "active_count", lambda threads=threads: threads)
        files.append(lk.export.onnx(model, digits.test.x[:2], tmp_path / "net.onnx").read_bytes())
    assert files[0] == files[1]


@pytest.mark.slow
def test_other_threads_may_use_torch_while_a_network_is_exported(tmp_path):
    digits = lk.load_data("digits")
    model, failed = lk.models.mlp(64, 32, 10), []
    path = tmp_path / "net.onnx"

    def export():
        for _ in range(3):
            lk.export.onnx(lk.quantize(model, 4), digits.test.x[:2], path)

    thread = threading.Thread(target=export)
    thread.start()
    while thread.is_alive():
        try:
            lk.prune_channels(model, 0.5, example=digits.test.x[:2])
        except Exception as error:
            failed.append(str(error))
    thread.join()
    assert failed == []
    assert path.exists()


def test_the_onnx_file_stands_beside_our_file(tmp_path):
    model, x = lk.load_model("lenet-300-100", "mnist"), lk.load_data("mnist").test.x[:2]
    table = lk.export.size_table(lk.prune(model, 0.9), x).set_index("what")["bytes"]
    assert table["ONNX file"] == len(lk.export.onnx(lk.prune(model, 0.9), x, tmp_path / "net.onnx").read_bytes())
    assert table["labkit file"] == len(lk.encode(lk.prune(model, 0.9)))
    assert table["ONNX file"] == lk.export.size_table(model, x).set_index("what")["bytes"]["ONNX file"]  # zeros stay
    assert table["labkit file"] < table["ONNX file"] / 4
    assert table.drop("ONNX file").equals(lk.size_table(lk.prune(model, 0.9)).set_index("what")["bytes"])
