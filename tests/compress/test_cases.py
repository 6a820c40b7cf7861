"""Cases that users of other toolkits reported, each with the right value: axes, types, rules, files, what counts."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from labkit.compress import _weights
from labkit.compress.codebook import share_weights, to_floats, to_indices
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.integer import integer_only
from labkit.compress.magnitude import GradualPruning, KeepZeros, prune, sparsity_of
from labkit.compress.qat import finish_qat, keep_grids, prepare_qat
from labkit.compress.quantize import quantize, quantize_inputs
from labkit.data import Split
from labkit.measure import counts, kinds
from labkit.optim import Step
from labkit.store import check_equal, decode, encode, ledger, size_table
from labkit.train import fit
from tests.unlabelled import unlabelled

END = Step(1, 1, 1, True, 0.1)


def seeded(build) -> nn.Module:
    torch.manual_seed(0)
    return build()


# the axis of the outputs


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_its_channels_on_axis_one(kind, groups):
    layer = seeded(lambda: kind(4, 6, 3, groups=groups))
    with torch.no_grad():
        layer.weight[:, 0] *= 1000  # one output a thousand times the others: with scales along axis 0 they round to 0
    small = quantize(layer, 8, granularity="channel")
    scale = small.parametrizations.weight[0].scale
    assert scale.flatten().tolist() == pytest.approx(
        [float(layer.weight[:, i].abs().max()) / 127.5 for i in range(6 // groups)]
    )
    assert scale.shape == (1, 6 // groups, *[1] * (layer.weight.ndim - 2))
    assert ((small.weight - layer.weight)[:, 1:].abs() <= layer.weight[:, 1:].abs().max() / 127.5).all()
    check_equal(small, decode(encode(small), layer))
    trained = finish_qat(prepare_qat(layer, 8, granularity="channel"))
    assert trained.weight.equal(small.weight)


def test_an_affine_transposed_convolution_comes_back_from_a_file():
    layer = seeded(lambda: nn.ConvTranspose2d(4, 6, 3))
    small = quantize(prune(layer, 0.5), 3, symmetric=False, granularity="channel")
    assert len(small.parametrizations.weight[0].zero_point.unique()) > 1
    check_equal(small, decode(encode(small), layer))


def test_kinds_are_named_truly():
    model = nn.ModuleDict(
        dict(up=nn.ConvTranspose2d(2, 3, 2), words=nn.LSTM(4, 4), cell=nn.GRUCell(4, 4), mix=nn.Bilinear(3, 4, 5),
             token=nn.Embedding(9, 4), bag=nn.EmbeddingBag(9, 4), fc=nn.Linear(4, 4))
    )  # fmt: skip
    expected = ["transposed convolution", *["recurrent"] * 4, "bilinear", "embedding", "embedding", "head"]
    assert list(kinds(model).values()) == expected


# floats of other types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("symmetric", [True, False])
def test_small_rows_of_any_type_keep_their_levels(dtype, symmetric):
    w = seeded(lambda: torch.randn(4, 500).clamp(-2, 2)).to(dtype) * torch.tensor([[1.0], [1e-2], [1e-3], [3e-4]]).to(
        dtype
    )
    now = fake_quantize(w, choose_grid(w, 6, symmetric=symmetric, granularity="channel"))
    assert now.dtype == dtype
    assert [len(row.unique()) for row in now] == pytest.approx([60] * 4, abs=6)  # at the ends some are never reached
    low, high = w.double().amin(1, keepdim=True), w.double().amax(1, keepdim=True)
    step = torch.maximum(-low, high) / 31.5 if symmetric else (high - low) / 63
    rounding = torch.finfo(dtype).eps * high + 6e-8  # of the level itself, in a type that may have no smaller number
    assert ((now.double() - w.double()).abs() <= step * 0.5001 + rounding).all()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "shared",
    [dict(granularity="tensor"), dict(granularity="channel"), dict(granularity="group", group_size=2)],
    ids=lambda how: how["granularity"],
)
@pytest.mark.parametrize(
    "w",
    [
        torch.tensor([[60000.0, -60000, 30000, 1]], dtype=torch.float16),
        torch.tensor([[65504.0, -65504, 0.5, 6e-8]], dtype=torch.float16),
        torch.tensor([[3e38, -3e38, 1, 0]], dtype=torch.bfloat16),
        torch.tensor([[3.4e38, -3.4e38, 1, 0]]),
        torch.tensor([[1e-40, -2e-40, 1e-45, 0]]),
        torch.tensor([[1e-310, -2e-310, 1e308, -1e308]], dtype=torch.float64),
    ],
    ids=["60000", "the largest half", "large bfloat16", "the largest float", "subnormal", "float64"],
)
def test_no_value_makes_a_level_infinite(w, bits, symmetric, shared):
    now = fake_quantize(w, choose_grid(w, bits, symmetric=symmetric, **shared))
    assert now.isfinite().all()
    assert now.dtype == w.dtype
    assert (now[w == 0] == 0).all()
    if bits == 8:
        step = (w.double().amax() - w.double().amin().clamp(max=0)) / 255
        rounding = float(torch.finfo(torch.float32).tiny) + torch.finfo(w.dtype).eps * w.double().abs().max()
        # where the outermost level would be infinite, the grid ends one step earlier
        assert (now.double() - w.double()).abs().max() <= step * 1.05 + rounding
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = w
    trained = prepare_qat(layer, bits, symmetric=symmetric, **shared)
    assert trained.weight.equal(quantize(layer, bits, symmetric=symmetric, **shared).weight)
    assert finish_qat(trained).weight.equal(trained.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_rounded_model_of_any_type_comes_back_from_its_file(dtype):
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))).to(dtype)
    x = torch.rand(20, 6).to(dtype)
    small = quantize(model, 4, granularity="channel", activation_bits=8, calibration=unlabelled(x))
    again = decode(encode(small), model)
    check_equal(small, again)
    assert again[0].weight.dtype == dtype
    assert again(x).equal(small(x))
    assert torch.allclose(small(x), model(x), atol=0.1)


def test_a_quantized_model_follows_when_its_type_is_changed():
    x = torch.rand(3, 6)
    small = quantize(seeded(lambda: nn.Linear(6, 5)), 4)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        moved = copy.deepcopy(small).to(dtype)
        assert moved.weight.dtype == dtype
        assert torch.allclose(moved(x.to(dtype)).float(), small(x), atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_centroids_of_half_precision_are_the_nearest(dtype):
    w = seeded(lambda: torch.randn(300) * 20_000).clamp(-60_000, 60_000).to(dtype)
    codebook = torch.tensor([-50_000.0, -10_000, 3, 40_000]).to(dtype)
    nearest = codebook[(w.float()[:, None] - codebook.float()).abs().argmin(1)]
    assert to_floats(to_indices(w, codebook), codebook).equal(nearest)
    model = nn.Linear(300, 1).to(dtype)
    model.weight.data = w[None]
    assert len(share_weights(model, 2).weight.unique()) == 4


# rules of other libraries


def test_pruning_a_normalized_weight_leaves_half_of_it_and_the_input_alone():
    layer = seeded(lambda: parametrizations.weight_norm(nn.Linear(20, 10)))
    before, weight = copy.deepcopy(layer.state_dict()), layer.weight.detach()
    small = prune(layer, 0.5)
    assert type(small) is nn.Linear
    assert int((small.weight == 0).sum()) == 100
    assert small.weight[small.weight != 0].equal(weight[small.weight != 0])
    assert all(value.equal(before[name]) for name, value in layer.state_dict().items())


def test_spectral_norm_in_training_mode_is_read_but_not_changed():
    layer = seeded(lambda: parametrizations.spectral_norm(nn.Linear(20, 10))).train()
    before = copy.deepcopy(layer.state_dict())
    for routine in (
        lambda m: prune(m, 0.5),
        lambda m: quantize(m, 4),
        lambda m: share_weights(m, 2),
        encode,
        counts,
        kinds,
    ):
        routine(layer)
    assert all(value.equal(before[name]) for name, value in layer.state_dict().items())
    expected = copy.deepcopy(layer).eval().weight
    assert decode(encode(layer), layer).weight.equal(expected)


def test_what_torch_pruned_is_counted_and_has_no_negative_zeros():
    layer = nn.Sequential(seeded(lambda: nn.Linear(20, 10)))
    torch_prune.l1_unstructured(layer[0], "weight", 150)
    assert sparsity_of(layer) == 0.75
    plain = decode(encode(layer), layer)[0].weight
    assert not torch.signbit(plain[plain == 0]).any()
    assert plain.equal(layer[0].weight)
    assert int((prune(layer, 0.8)[0].weight == 0).sum()) == 160


def test_zeros_are_held_where_a_rule_gives_them_back_and_refused_where_not(refuses):
    layer = seeded(lambda: parametrizations.weight_norm(nn.Linear(6, 5)))
    hook = KeepZeros(prune(layer, 0.5))
    hook(layer, END)
    assert int((layer.weight == 0).sum()) == 15
    orthogonal = seeded(lambda: parametrizations.orthogonal(nn.Linear(6, 5)))
    with pytest.raises(ValueError, match="weight is computed by another library's rule; allowed here: weights that"):
        GradualPruning(0.5)(orthogonal, END)
    masked = nn.Sequential(nn.Linear(6, 5))
    torch_prune.l1_unstructured(masked[0], "weight", 3)
    with pytest.raises(ValueError, match="0.weight is computed by another library's rule"):
        GradualPruning(0.5)(masked, END)


# what trains


def test_frozen_weights_stay_frozen_through_training_for_a_grid():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    model[0].requires_grad_(False)

    def free(model: nn.Module) -> list[bool]:
        return [model[i].parametrizations.weight.original.requires_grad for i in range(2)]

    prepared = prepare_qat(model, 4)
    assert free(prepared) == [False, True]
    finished = finish_qat(prepared)
    assert free(finished) == [False, False]  # integers
    assert free(keep_grids(finished)) == [False, True]
    assert free(prepare_qat(finished, 3)) == [False, True]
    assert [p.requires_grad for p in _weights.plain(finished).parameters()] == [False, False, True, True]
    assert [p.requires_grad for n, p in share_weights(model, 2).named_parameters() if "codebook" in n] == [False, True]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_network_trains_for_a_grid_and_finishes_equal(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.fc = kind(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.read(x)[0][:, -1])

    model = seeded(Net)
    x = torch.rand(64, 5, 4)
    train = Split(x, (x[:, -1].sum(1) > 2).long())
    trained, history = fit(prepare_qat(model, 3), train, epochs=3, lr=1e-2, batch_size=16, progress=False)
    finished = finish_qat(trained)
    assert finished(x).equal(trained.eval()(x))
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert len(getattr(finished.read, name).unique()) <= 8
        assert not getattr(finished.read, name).equal(getattr(quantize(model, 3).read, name))
    check_equal(finished, decode(encode(finished), model))


# calibration


def test_attention_rounds_query_key_and_value_and_names_what_it_cannot_hear():
    attention = seeded(lambda: nn.MultiheadAttention(4, 2, batch_first=True))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, key=10 * x, value=-x)[0]

    x = torch.rand(3, 5, 4)
    with pytest.raises(
        ValueError, match="calibration never calls the layer of attention.out_proj.weight with a tensor"
    ):
        quantize(Net(), 8, activation_bits=8, calibration=unlabelled(x))
    model = quantize_inputs(Net(), 3, calibration=unlabelled(x), layers=["attention"])
    grid = choose_grid(torch.cat([x, 10 * x, -x]), 3, symmetric=False)
    q, k, v = (fake_quantize(t, grid) for t in (x, 10 * x, -x))
    assert torch.allclose(model(x), attention(q, k, v)[0], atol=1e-6)


def test_activation_grids_can_be_trained_with():
    model = quantize_inputs(nn.Linear(4, 3), 4, calibration=unlabelled(torch.rand(9, 4)))
    model(torch.rand(2, 4)).sum().backward()
    assert not model.input_quantizer.scale.is_inference()
    assert model.weight.grad.abs().sum() > 0


def test_calibration_that_overflows_is_refused_by_layer():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    model[0].weight.data.fill_(3e38)
    with pytest.raises(ValueError, match=r"what enters the layer of 1.weight holds 6 NaN or infinite values"):
        quantize_inputs(model, 8, calibration=unlabelled(torch.full((3, 2), 3.0)))


def test_a_layer_with_an_input_quantizer_of_its_own_keeps_it():
    class Own(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.input_quantizer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.input_quantizer(x))

    model, x = nn.Sequential(seeded(Own), nn.Linear(3, 2)), torch.rand(5, 4)
    with pytest.raises(ValueError, match="Own has an input_quantizer of its own; allowed: layers without one"):
        quantize_inputs(model, 8, calibration=unlabelled(x))
    small = quantize_inputs(quantize(model, 4), 2, calibration=unlabelled(x), layers=["0.input_quantizer", "1"])
    again = decode(encode(small), model)
    check_equal(small, again)
    assert again(x).equal(small(x))


# what counts as a weight


class Block(nn.Module):
    """A ConvNeXt block (Liu et al. 2022), freshly made: its layer scale is 1e-6."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.widen, self.narrow = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * self.narrow(self.widen(self.mix(x)).relu())


def test_a_global_ranking_leaves_the_layer_scales_of_a_fresh_convnext_alone():
    model = nn.Sequential(*(seeded(Block) for _ in range(2)))
    small = prune(model, 0.05)
    for i in range(2):
        assert small[i].layer_scale.equal(model[i].layer_scale)
    assert "0.layer_scale" not in _weights.weights(model)
    named = prune(model, 0.5, layers=["0.layer_scale"])
    assert int((named[0].layer_scale == 0).sum()) == 8
    assert named[1].layer_scale.equal(model[1].layer_scale)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([], "layers is []; allowed: a list of at least one name, or None for all"),
        ((), "layers is (); allowed: a list of at least one name, or None for all"),
        ("0", "layers is '0'; allowed: a list of at least one name, or None for all"),
    ],
)
def test_layers_is_a_list_of_names(refuses, layers, said):
    model = nn.Sequential(nn.Linear(3, 2))
    for routine in (
        lambda: prune(model, 0.5, layers=layers),
        lambda: quantize(model, layers=layers),
        lambda: share_weights(model, 2, layers=layers),
        lambda: prepare_qat(model, 2, layers=layers),
        lambda: GradualPruning(0.5, layers=layers)(model, END),
    ):
        refuses(ValueError, said, routine)


# files


def test_a_file_tells_two_states_that_are_no_tensors_apart_or_refuses():
    class Counts(nn.Linear):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None:
            pass

    said = "0, a Counts, keeps _extra_state; allowed in a file: parameters and buffers"
    for routine in (encode, lambda m: check_equal(m, m), lambda m: decode(encode(nn.Sequential(nn.Linear(2, 2))), m)):
        with pytest.raises(ValueError, match=said):
            routine(nn.Sequential(Counts(2, 2)))


def test_a_buffer_that_is_not_persistent_decides_over_outputs_and_is_stored():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("factor", torch.ones(3), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    model = Table()
    model.factor.fill_(7.0)
    assert decode(encode(model), Table())(torch.ones(3)).tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="factor is not the same in the two models"):
        check_equal(model, Table())


def test_loading_keeps_the_memory_format_of_the_model_that_is_loaded_into():
    model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    for small in (model, prune(model, 0.5), quantize(model, 4)):
        assert decode(encode(small), model).weight.is_contiguous(memory_format=torch.channels_last)


def test_a_wrapped_network_has_the_file_and_the_ledger_of_the_network_inside():
    model, x = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval(), torch.rand(9, 4)
    small = quantize(model, 4, activation_bits=8, calibration=unlabelled(x))
    assert encode(nn.DataParallel(small)) == encode(small)
    assert ledger(nn.DataParallel(small)).equals(ledger(small))
    assert size_table(nn.DataParallel(small))["bytes"][3:].tolist() == size_table(small)["bytes"][3:].tolist()
    again = decode(encode(small), nn.DataParallel(small))
    check_equal(small, again)
    assert again(x).equal(small(x))


# integers only


def test_a_subclass_is_not_taken_for_its_layer():
    class Halved(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / 2

    model, x = nn.Sequential(nn.Flatten(), Halved(6, 3)), torch.rand(20, 6)
    small = quantize(model, 8, activation_bits=8, calibration=unlabelled(x))
    with pytest.raises(ValueError, match="_1 does not fit; allowed: one chain of linear layers"):
        integer_only(small)
    usual = quantize(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), 8, activation_bits=8, calibration=unlabelled(x))
    assert torch.allclose(integer_only(nn.DataParallel(usual))(x), usual(x), atol=1e-5)
