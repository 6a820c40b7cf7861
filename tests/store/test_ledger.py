"""The ledger: every byte once, each under its right heading; and the files and theory it is set beside."""

import copy
import io

import pytest
import torch
from torch import nn

from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.models import build
from labkit.store import COMPONENTS, compression_ratio, encode, encode_with_ledger, ledger, size_table
from tests.unlabelled import unlabelled


def blank_border(lenet: nn.Module) -> nn.Module:
    """Zeros where training on digits leaves them, at the pixels that are always blank: they make an index pay."""
    lenet = copy.deepcopy(lenet)
    lenet.fc1.weight.data.view(300, 28, 28)[:, :, [0, 1, 2, 3, 24, 25, 26, 27]] = 0
    return lenet


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    lenet, resnet = build("lenet-300-100"), build("resnet-20")
    rounded = quantize(lenet, 4, symmetric=False, granularity="channel", activation_bits=8,
                       calibration=unlabelled(torch.rand(8, 1, 28, 28)))  # fmt: skip
    return {
        "dense": lenet,
        "pruned": prune(lenet, 0.9),
        "pruned, 4 bits": quantize(prune(blank_border(lenet), 0.9), 4),
        "affine, activations too": rounded,
        "ResNet": quantize(prune(resnet, 0.5), 6),
        "transformer": quantize(nn.TransformerEncoderLayer(16, 4, 32), 5),
        "nothing": nn.Module(),
    }


NETWORKS = networks()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rows_sum_to_the_file_to_the_byte(name: str) -> None:
    table = ledger(NETWORKS[name])
    assert table["bytes"].sum() == len(encode(NETWORKS[name]))
    assert list(table.columns) == ["name", "component", "coder", "bytes"]
    assert set(table.component) <= set(COMPONENTS)
    assert not table.duplicated(["name", "component"]).any()


def test_the_file_comes_with_its_ledger() -> None:
    raw, table = encode_with_ledger(NETWORKS["pruned, 4 bits"])
    assert raw == encode(NETWORKS["pruned, 4 bits"])
    assert table.equals(ledger(NETWORKS["pruned, 4 bits"]))


def of(name: str) -> dict[str, int]:
    return ledger(NETWORKS[name]).groupby("component")["bytes"].sum().to_dict()


def test_a_dense_float_network_is_values_biases_and_a_short_header() -> None:
    sizes = of("dense")
    assert sizes.pop("header") < 100
    assert sizes == {"values": 4 * 266_200, "biases": 4 * 410}


def test_scales_of_groups_are_counted_as_those_of_channels() -> None:
    model = nn.Linear(96, 40)
    for symmetric, zero_points in ((True, 0), (False, 40 * 4)):
        small = quantize(model, 4, symmetric=symmetric, granularity="group", group_size=24)
        rows = ledger(small).set_index("component")["bytes"]
        assert 4 * 40 * 4 <= rows["scales"] <= 4 * 40 * 4 + zero_points
        assert rows.sum() == len(encode(small))
        theory = size_table(small).set_index("what")["bytes"]["theory: entropy of mask and values"]
        assert theory < rows["values"] + rows["biases"] + 100


def test_every_component_counts_what_it_should() -> None:
    four = of("pruned, 4 bits")
    assert four["biases"] == 4 * 410
    assert four["scales"] == 3 * 4  # the zero points are all 0 and cost nothing
    assert four["mask or indices"] > four["values"] > 0
    rounded = of("affine, activations too")
    assert 4 * 410 < rounded["scales"] < 4 * 410 + 410 + 100  # a scale a channel, and a zero point of under a byte
    assert 3 * 4 <= rounded["input quantizers"] < 3 * 9
    resnet = NETWORKS["ResNet"]
    vectors = sum(m.num_features for m in resnet.modules() if isinstance(m, nn.BatchNorm2d))
    assert of("ResNet")["biases"] == 4 * 10
    # weight, bias, running mean and variance: what is all zeros or nearly so may cost less than 4 bytes a value
    assert 2 * 4 * vectors <= of("ResNet")["BatchNorm"] <= 4 * 4 * vectors


def test_a_pruned_layer_says_how_it_is_stored() -> None:
    table = ledger(NETWORKS["pruned, 4 bits"]).set_index(["name", "component"])
    assert table.coder["fc1.weight", "mask or indices"] in ("bitmap, range", "relative, range")
    assert table.coder["fc1.bias", "biases"] == "dense, raw 32 bits"
    assert table.coder["", "header"] == "deflate; checksum"


def test_comparison_knows_sizes_worked_by_hand() -> None:
    net = nn.Linear(8, 4, bias=False)
    net.weight.data = torch.tensor([[0.0] * 6 + [1.0, -1.0]] * 4)
    sizes = size_table(quantize(net, 1)).set_index("what")["bytes"]
    # 32 places of which 8 are kept: 32 · H(1/4) bits for the mask, one bit a sign
    assert sizes["theory: entropy of mask and values"] == -(-(32 * 0.8112781 + 8) // 8)
    assert sizes["raw float32, 4 bytes a parameter"] == 4 * 32
    assert sizes["labkit file"] == len(encode(quantize(net, 1)))


def test_comparison_sets_our_file_beside_the_usual_ones() -> None:
    sizes = size_table(NETWORKS["pruned, 4 bits"]).set_index("what")["bytes"]
    buffer = io.BytesIO()
    torch.save(NETWORKS["pruned, 4 bits"].state_dict(), buffer)
    assert sizes["torch.save of the state_dict"] == len(buffer.getvalue())
    assert sizes["raw float32, 4 bytes a parameter"] == 4 * 266_610
    assert sizes["labkit file"] < sizes["gzip of raw float32"] < sizes["torch.save of the state_dict"]
    assert 0.8 < sizes["labkit file"] / sizes["theory: entropy of mask and values"] < 1.03


def test_buffers_are_not_parameters() -> None:
    sizes = size_table(NETWORKS["ResNet"]).set_index("what")["bytes"]
    assert sizes["raw float32, 4 bytes a parameter"] == 4 * sum(p.numel() for p in build("resnet-20").parameters())


def test_the_compression_ratio_is_that_of_two_files() -> None:
    dense, small = NETWORKS["dense"], NETWORKS["pruned, 4 bits"]
    assert compression_ratio(dense, small) == len(encode(dense)) / len(encode(small))
    assert compression_ratio(dense, dense) == 1
