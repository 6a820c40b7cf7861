"""Integers only: integer arithmetic as the oracle, onnxruntime where it is exact, fractions for the multiplier.

onnxruntime's kernel for uint8 inputs and int8 weights adds two products in 16 bits on an x86 processor without VNNI,
and clamps the sum (docs/processors.md). Weights of at most 64 cannot reach that limit, so it is asked about those only.
"""

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from labkit.compress.fold import fold_batchnorm
from labkit.compress.grid import Grid, to_integers
from labkit.compress.integer import IntegerLayer, fixed_point, integer_only, times
from labkit.compress.quantize import install_input_quantizer, quantize
from labkit.data import Split, load_data, take
from labkit.train import count_correct, fit, predict
from labkit.zoo import load_model
from tests.unlabelled import unlabelled


def integers(model, images, bits=8, **how):
    return quantize(model, bits, activation_bits=8, calibration=unlabelled(images), **how)


BITS = (8, 7)  # with 7 bits, weights are -64 to 63 and onnxruntime is exact: its "reduced range"


@pytest.fixture(scope="module", params=BITS)
def lenet(request):
    """LeNet-300-100 in 8 or 7 bits, one scale per channel, and validation images."""
    data = load_data("mnist")
    dense, images = load_model("lenet-300-100", "mnist"), data.train.x[:256]
    return integers(dense, images, request.param, granularity="channel"), data.validation


@pytest.fixture(scope="module", params=BITS)
def lenet_5(request):
    """LeNet-5 in 8 or 7 bits, one scale per channel, and validation images."""
    data = load_data("mnist")
    dense, images = load_model("lenet-5", "mnist"), data.train.x[:256]
    return integers(dense, images, request.param, granularity="channel"), take(data.validation, 1_000)


# the multiplier


@given(st.integers(-(2**31), 2**31 - 1), st.floats(1e-8, 0.99))
def test_a_multiplication_and_a_shift_round_the_product(a, real):
    m, shift = fixed_point(torch.tensor(real))
    assert 2**30 <= int(m) <= 2**31
    exact = Fraction(a) * Fraction(int(m), 2 ** int(shift))
    given_ = int(times(torch.tensor(a), m, shift))
    assert -Fraction(1, 2) <= exact - given_ < Fraction(1, 2) or exact - given_ == Fraction(-1, 2)
    assert abs(Fraction(int(m), 2 ** int(shift)) / Fraction(real) - 1) < Fraction(1, 2**22)  # float32's own 24 bits
    assert abs(exact - Fraction(a) * Fraction(real)) <= abs(Fraction(a) * Fraction(real)) / 2**22


def test_halves_go_upwards():
    m, shift = fixed_point(torch.tensor(0.5))
    assert times(torch.tensor([-3, -1, 1, 3]), m, shift).tolist() == [-1, 0, 1, 2]


# the layers, against integer arithmetic and onnxruntime


def sums_by_numpy(layer: IntegerLayer, x):
    """The layer's sums in int64, each product written out."""
    x, w = layer.before(x).numpy().astype(np.int64) - layer.zero_in, layer.weight.numpy().astype(np.int64)
    if layer.convolution is None:
        return x @ w.T + layer.bias.numpy()
    (ph, pw), (sh, sw), (dh, dw), groups = (layer.convolution[k] for k in ("padding", "stride", "dilation", "groups"))
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))  # the zero of the integers is zero_in, subtracted above
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], (dh, dw), strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    pieces = zip(np.split(seen, groups, axis=1), np.split(w, groups), strict=True)
    sums = [np.einsum("nchwij,ocij->nohw", part, filters, optimize=True) for part, filters in pieces]
    return np.concatenate(sums, axis=1) + layer.bias.numpy()[:, None, None]


def run_onnx(nodes, inputs, constants, output):
    """One pass of a graph of `nodes`: {name: array} in, the array `output` out."""
    arrays = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    entering = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items()
    ]
    leaving = [helper.make_tensor_value_info(output, TensorProto.UNDEFINED, None)]
    graph = helper.make_graph(nodes, "layer", entering, leaving, arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(onnx.shape_inference.infer_shapes(model).SerializeToString())
    return session.run([output], inputs)[0]


def sums_by_onnx(layer: IntegerLayer, x):
    """The layer's int32 sums by MatMulInteger or ConvInteger; ask `exact_in_onnx` first."""
    x, zero = layer.before(x), np.uint8(layer.zero_in)
    if x.ndim == 4:
        constants = dict(w=layer.weight.numpy(), zx=zero, b=layer.bias.view(-1, 1, 1).numpy())
        how = {k: v for k, v in layer.convolution.items() if k in ("stride", "dilation")}
        pads = [*layer.convolution["padding"]] * 2
        first = helper.make_node("ConvInteger", ["x", "w", "zx"], ["p"], strides=how["stride"], pads=pads,
                                 dilations=how["dilation"], group=layer.convolution["groups"])  # fmt: skip
    else:
        constants = dict(w=layer.weight.T.contiguous().numpy(), zx=zero, b=layer.bias.numpy())
        first = helper.make_node("MatMulInteger", ["x", "w", "zx"], ["p"])
    nodes = [first, helper.make_node("Add", ["p", "b"], ["sums"])]
    return run_onnx(nodes, dict(x=x.numpy()), constants, "sums")


def exact_in_onnx(layer: IntegerLayer):
    """Whether no pair of products can leave 16 bits: 2 · 255 · 64 < 2^15."""
    return int(layer.weight.min()) >= -64 and int(layer.weight.max()) <= 64


def check_sums(layer, x):
    """The layer's sums are those of integer arithmetic and, where it is exact, of onnxruntime; returns them."""
    sums = layer.sums(x)
    assert sums.dtype == torch.int32
    np.testing.assert_array_equal(sums.numpy(), sums_by_numpy(layer, x))
    if exact_in_onnx(layer):
        np.testing.assert_array_equal(sums.numpy(), sums_by_onnx(layer, x))
    return sums.numpy()


def check_every_layer(model, images):
    """Each layer of the network of integers, on what the layers before it made of the images."""
    network = integer_only(model)
    q = to_integers(images, network.grid)
    for layer in network.layers:
        sums = check_sums(layer, q)
        q = layer(q)
        if layer.next_grid is None:
            np.testing.assert_array_equal(q.numpy(), sums)
            break
        assert q.dtype == torch.uint8
        m = layer.by_channel(layer.step / layer.next_grid.scale.double()).numpy()
        y = np.clip(np.rint(sums * m) + layer.zero_out, layer.low, layer.high)
        off = np.abs(q.numpy().astype(int) - y)
        assert off.max() <= 1
        assert (off > 0).mean() < 1e-4


def test_weights_of_seven_bits_are_within_onnxruntimes_reduced_range():
    edges = torch.tensor([[-1.0, 1.0, 0.5, -0.5]])
    for bits, exact in ((8, False), (7, True)):
        layer = nn.Linear(4, 1)
        layer.weight.data = edges
        network = integer_only(integers(nn.Sequential(layer), torch.rand(9, 4), bits))
        assert exact_in_onnx(network.layers[0]) is exact


def test_every_layer_sums_exactly_and_requantizes_to_within_a_tie(lenet):
    check_every_layer(lenet[0], lenet[1].x[:500])


def test_so_does_every_convolution(lenet_5):
    check_every_layer(lenet_5[0], lenet_5[1].x[:100])


@pytest.mark.parametrize("bits", BITS)
def test_strides_padding_groups_and_a_folded_batchnorm(digits, bits):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(4, 8, 3, stride=2, padding=2, groups=2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 10), nn.ReLU(),
    )  # fmt: skip
    model = fit(model, digits.train, epochs=1, lr=1e-2, progress=False)[0]
    model = integers(fold_batchnorm(model), digits.train.x, bits, granularity="channel")
    x = digits.validation.x
    check_every_layer(nn.Sequential(*model[:-1]), x)
    with torch.inference_mode():
        logits, floats = integer_only(model)(x), model(x)
    assert logits.min() == 0  # the ReLU at the end
    assert float((logits - floats).abs().max()) < 0.05 * float(floats.std())


def test_a_layer_without_bias_is_a_qlinearmatmul(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20, bias=False), nn.Linear(20, 3))
    model = integers(model, digits.train.x, bits=7)
    layer = integer_only(model).layers[0]
    assert exact_in_onnx(layer)
    entering, leaving = model[1].input_quantizer, model[2].input_quantizer
    x = torch.randint(0, 256, (50, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    constants = dict(
        sx=entering.scale.numpy(), zx=np.uint8(entering.zero_point), w=layer.weight.T.contiguous().numpy(),
        sw=model[1].parametrizations.weight[0].scale.numpy(), zw=np.int8(0), sy=leaving.scale.numpy(),
        zy=np.uint8(leaving.zero_point),
    )  # fmt: skip
    node = helper.make_node("QLinearMatMul", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"], ["y"])
    theirs = run_onnx([node], dict(x=x.numpy()), constants, "y").astype(int)
    off = np.abs(layer(x).numpy().astype(int) - theirs)
    assert leaving.zero_point > 20  # no ReLU between: the grid reaches below zero
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-2


@pytest.mark.parametrize("bits", BITS)
def test_zero_points_count_on_both_sides_and_a_relu_cuts_at_that_of_the_next_layer(bits):
    torch.manual_seed(0)
    for relu in (nn.Identity(), nn.ReLU()):
        model = integers(nn.Sequential(nn.Linear(6, 8), relu, nn.Linear(8, 2)), torch.randn(50, 6), bits)
        install_input_quantizer(model[2], Grid(torch.tensor(0.02), torch.tensor(90), 8, symmetric=False))
        first, second = integer_only(model).layers
        x = torch.randint(0, 256, (40, 6), dtype=torch.uint8)
        assert first.zero_in > 20
        assert second.zero_in == 90
        check_sums(first, x)
        np.testing.assert_array_equal(second(first(x)).numpy(), check_sums(second, first(x)))
        assert (int(first(x).min()) < 90) is isinstance(relu, nn.Identity)


# the network


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [8, 4])
def test_it_classifies_as_the_network_that_imitates_it_in_floats(bits, granularity):
    data = load_data("mnist")
    model = quantize(load_model("lenet-300-100", "mnist"), bits, granularity=granularity, activation_bits=8,
                     calibration=take(data.train, 256))  # fmt: skip
    network = integer_only(model)
    x = data.validation.x[:1_000]
    assert (predict(network, x) != predict(model, x)).sum() <= 1
    with torch.inference_mode():
        logits, floats = network(x), model(x)
    assert float((logits - floats).abs().max()) < 0.2
    assert float((logits - floats).square().mean().sqrt()) < 0.02 * float(floats.std())


def test_accuracy_stays(lenet):
    model, split = lenet
    dense = count_correct(load_model("lenet-300-100", "mnist"), split)
    assert abs(count_correct(integer_only(model), split) - dense) <= 8


def test_lenet_5_classifies_as_its_imitation(lenet_5):
    model, split = lenet_5
    assert (predict(integer_only(model), split.x) != predict(model, split.x)).sum() <= 1


def test_nothing_between_input_and_logits_is_a_float(lenet):
    network = integer_only(lenet[0])
    seen = []
    for layer in network.layers:
        layer.register_forward_hook(lambda m, entered, left: seen.extend([entered[0].dtype, left.dtype]))
    network(lenet[1].x[:2])
    assert seen == [torch.uint8] * 5 + [torch.int32]
    assert [layer.weight.dtype for layer in network.layers] == [torch.int8] * 3
    assert not list(network.parameters())


# what is refused


def chain(*modules):
    torch.manual_seed(0)
    return nn.Sequential(*modules)


class Odd(nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.fc, self.rule = nn.Linear(4, 4), rule

    def forward(self, x):
        return self.rule(self, x)


FIT = "does not fit; allowed: one chain of linear layers, convolutions, max-pooling, flatten and ReLU"
REFUSED = {
    "a mean": (chain(nn.Conv2d(1, 1, 1), nn.AvgPool2d(2)), torch.rand(9, 1, 2, 2), f"_1 {FIT}"),
    "pooled logits": (
        chain(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2)), torch.rand(9, 1, 2, 2),
        "max-pooling does not fit: a layer with weights has to come after it",
    ),
    "mirrors": (
        chain(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), torch.rand(9, 1, 4, 4),
        "0 pads by 'reflect'; allowed: 'zeros'",
    ),
    "tanh": (Odd(lambda m, x: m.fc(x).tanh()), torch.rand(9, 4), f"tanh {FIT}"),
    "a sum": (Odd(lambda m, x: m.fc(x) + x), torch.rand(9, 4), f"add {FIT}"),
    "twice": (Odd(lambda m, x: m.fc(m.fc(x))), torch.rand(9, 4), f"fc_1 {FIT}"),
    "relu first": (
        Odd(lambda m, x: m.fc(F.relu(x))), torch.rand(9, 4),
        "relu does not fit: a layer with weights has to come before it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_another_network_is_refused_by_name(refuses, kind):
    model, x, said = REFUSED[kind]
    refuses(ValueError, said, integer_only, integers(model, x))


def test_floats_and_affine_weights_are_refused(refuses, mlp, digits):
    said = "1 is not quantized with its activations; give what quantize(activation_bits=…) made"
    refuses(ValueError, said, integer_only, mlp)
    refuses(ValueError, said, integer_only, quantize(mlp, 8))
    said = "1 has affine weights; allowed: symmetric ones, whose zero_point is 0"
    refuses(ValueError, said, integer_only, integers(mlp, digits.train.x, symmetric=False))
    said = "1 has 4 scales per output; allowed: one (granularity 'tensor' or 'channel')"
    refuses(ValueError, said, integer_only, integers(mlp, digits.train.x, granularity="group", group_size=16))
    wide = integers(chain(nn.Linear(65_001, 1)), torch.rand(2, 65_001))
    said = "0 has 65,001 inputs; allowed: 65,000, so that int32 holds the sum"
    refuses(ValueError, said, integer_only, wide)


def test_a_bias_that_int32_cannot_hold_is_refused(digits):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net[1].weight.data *= 1e-9
    with pytest.raises(ValueError, match=r"the bias of 1 is .* steps S_x S_w; int32 has 2\^31"):
        integer_only(quantize(net, 8, activation_bits=8, calibration=digits.train))


def test_a_dilated_convolution_computes_what_the_simulation_computes(digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, dilation=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    small = quantize(net, 8, activation_bits=8, calibration=digits.train)
    torch.testing.assert_close(integer_only(small)(digits.test.x), small(digits.test.x), atol=0.05, rtol=0)


def test_the_bias_of_a_row_of_zeros_is_kept(digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    net[1].weight.data[::2] = 0
    net[1].bias.data[::2] = 0.07
    large = Split(255 * digits.train.x, digits.train.y)  # one step of these inputs is 1
    small = quantize(net, 8, granularity="channel", activation_bits=8, calibration=large)
    first = integer_only(small).layers[0]
    step = first.step[::2]
    assert step.max() < 0.02
    assert ((first.bias[::2] * step - 0.07).abs() <= step / 2 + 1e-6).all()
