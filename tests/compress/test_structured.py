"""Structured pruning: the smaller network computes what the masked one does; Torch-Pruning is the oracle of shapes."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from torch import nn

import labkit as lk
from labkit.compress._channels import FIXED, Use, channels, families
from labkit.compress.structured import (
    FROM_IMAGES,
    IMPORTANCES,
    SCOPES,
    held,
    least_important,
    prune_channels,
    remove,
    unit_importance,
)
from labkit.data import Split
from labkit.models import LeNet5, LeNet300100, ResNet20

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Concatenation(nn.Module):
    """Two paths, concatenated along the channels; each with its own BatchNorm or a common one."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 10, 1)
        self.bn, self.join, self.fc = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3), nn.Linear(8 * 36, 5)

    def forward(self, x):
        x = torch.cat([self.left(x), self.right(x).relu()], dim=1)
        x = self.join(F.relu(self.bn(x)))
        return self.fc(x.reshape(x.size(0), -1))


class Shortcut(nn.Module):
    """A residual block whose shortcut is a convolution, then one with a plain identity."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.shortcut, self.bn3 = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.conv4, self.bn4 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + self.bn3(self.shortcut(x)))
        out = self.bn4(self.conv4(x))
        out += x
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))


class Depthwise(nn.Module):
    """A depthwise separable convolution with a gate on its channels, as MobileNet has it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.bn2 = nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.pointwise, self.fc = nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.bn2(self.depthwise(F.relu6(self.bn1(self.conv1(x))))))
        x = x * self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.fc(F.relu(self.pointwise(x)).mean((2, 3)))


def alive(model, seed=0):
    """The model in evaluation mode, with distinct BatchNorm statistics, as after a training."""
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            for value in (layer.weight.data, layer.bias.data, layer.running_mean):
                value.normal_()
            layer.running_var.uniform_(0.5, 2)
    return model.eval()


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 12), nn.Tanh(),
                         nn.Dropout(), nn.Linear(12, 5))  # fmt: skip


MNIST = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
CIFAR = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
NETS = {
    "mlp": (perceptron, IMAGES), "lenet-300-100": (LeNet300100, MNIST), "lenet-5": (LeNet5, MNIST),
    "resnet-20": (ResNet20, CIFAR), "concatenation": (Concatenation, IMAGES), "shortcut": (Shortcut, IMAGES),
    "depthwise": (Depthwise, IMAGES),
}  # fmt: skip
NET = pytest.mark.parametrize("kind", NETS)


def net(kind):
    build, x = NETS[kind]
    torch.manual_seed(0)
    return alive(build()), x


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def masked(model, small):
    """The model with every channel silenced that `small` lacks: found by its own bias or mean, not by the graph."""
    model = copy.deepcopy(model)
    for name, layer in model.named_modules():
        tag = getattr(layer, "running_mean", None) if hasattr(layer, "running_mean") else getattr(layer, "bias", None)
        if isinstance(tag, torch.Tensor):
            other = small.get_submodule(name)
            left = set((other.running_mean if hasattr(other, "running_mean") else other.bias).tolist())
            gone = [i for i, value in enumerate(tag.tolist()) if value not in left]
            assert len(tag) == len(left) + len(gone)

            def silence(layer, inputs, out, gone=gone):
                out = out.clone()
                out[:, gone] = 0
                return out

            layer.register_forward_hook(silence)
    return model


# the smaller network is the masked one


@NET
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.6, 0.99])
def test_what_is_left_computes_what_the_masked_network_computes(kind, scope, sparsity):
    model, x = net(kind)
    small = prune_channels(model, sparsity, example=x[:2], scope=scope)
    if kind == "depthwise":  # the gate of a silent channel is not 0, but what it multiplies is
        torch.testing.assert_close(small(x), masked(model, small)(x), atol=1e-5, rtol=1e-4)
    else:
        torch.testing.assert_close(small(x), masked(model, small)(x), atol=1e-5, rtol=1e-5)
    assert type(small) is type(model)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters()) or sparsity == 0
    if sparsity == 0:
        assert shapes(small) == shapes(model)


@NET
def test_any_units_may_leave_not_only_the_least_important(kind):
    model, x = net(kind)
    uses = channels(model, x[:2])
    gone = torch.cat([units[1::2] for units in families(uses)])
    small = remove(model, uses, gone)
    torch.testing.assert_close(small(x), masked(model, small)(x), atol=1e-5, rtol=1e-4)
    assert not small(x).allclose(model(x), atol=1e-3)


def test_behind_a_sigmoid_removed_means_that_readers_hear_nothing():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3)), torch.randn(5, 6)
    small = prune_channels(model, 0.5, example=x, scope="layer")
    kept = [i for i, b in enumerate(model[0].bias.tolist()) if b in small[0].bias.tolist()]
    by_hand = torch.sigmoid(F.linear(x, model[0].weight[kept], model[0].bias[kept]))
    torch.testing.assert_close(small(x), F.linear(by_hand, model[2].weight[:, kept], model[2].bias))


@NET
def test_the_input_is_not_changed_and_the_logits_stay(kind):
    model, x = net(kind)
    before = copy.deepcopy(model.state_dict())
    small = prune_channels(model, 0.5, example=x[:2], scope="layer")
    for p in small.parameters():
        p.data.zero_()
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert small(x).shape == model(x).shape


@NET
def test_it_trains_is_measured_and_comes_back_from_its_file(kind, tmp_path):
    model, x = net(kind)
    split = Split(x, torch.tensor([0, 1, 2, 3]))
    small = prune_channels(model, 0.5, example=x[:2], scope="layer")
    before, after = (lk.measure(m, split) for m in (model, small))
    assert all(after[k] < before[k] for k in ("parameters", "macs", "size_bytes"))
    lk.save(small, tmp_path / "small.lk")
    again = lk.load(tmp_path / "small.lk", into=small)
    assert again(x).equal(small(x))
    trained, _ = lk.fit(small, split, epochs=1, lr=1e-2, batch_size=2, progress=False)
    assert shapes(trained) == shapes(small)
    assert not trained(x).equal(small(x))


def test_macs_of_lenet_5_by_hand():
    model, x = net("lenet-5")
    small = prune_channels(model, 0.5, example=x[:2], scope="layer")
    assert shapes(small)["conv1.weight"] == (10, 1, 5, 5)
    assert shapes(small)["conv2.weight"] == (25, 10, 5, 5)
    assert shapes(small)["fc1.weight"] == (250, 25 * 16)
    assert shapes(small)["fc2.weight"] == (10, 250)
    expected = 24 * 24 * 10 * 25 + 8 * 8 * 25 * 10 * 25 + 250 * 400 + 10 * 250
    assert lk.measure(small, Split(x, torch.zeros(4).long()))["macs"] == expected


# which units are one


def test_the_units_of_a_small_net_by_hand():
    uses = {(use.layer, use.side): use.units.tolist() for use in channels(*net("concatenation"))}
    left, right = uses["left", "out"], uses["right", "out"]
    assert len(set(left) | set(right)) == 16
    assert uses["bn", "norm"] == uses["join", "in"] == left + right
    assert uses["fc", "in"] == [unit for unit in uses["join", "out"] for _ in range(36)]
    assert uses["left", "in"] == [FIXED] * 3
    assert uses["fc", "out"] == [FIXED] * 5


def test_layers_that_are_added_share_their_units():
    uses = {(use.layer, use.side): use.units.tolist() for use in channels(*net("shortcut"))}
    assert uses["conv2", "out"] == uses["shortcut", "out"] == uses["conv4", "out"] == uses["bn4", "norm"]
    assert uses["conv1", "out"] == uses["conv2", "in"] == uses["shortcut", "in"]
    assert len(set(uses["conv1", "out"]) & set(uses["conv2", "out"])) == 0


def test_zeros_beside_a_shortcut_leave_the_wider_channels_free():
    """Option A: stages of 16, 32 and 64 share their first 16 channels; 16 and 32 more begin with the wider stages."""
    model, x = net("resnet-20")
    uses = {(use.layer, use.side): use.units.tolist() for use in channels(model, x[:2])}
    stream = [uses[f"blocks.{i}.conv2", "out"] for i in (0, 3, 6)]
    assert stream[0] == uses["conv1", "out"]
    assert stream[1][:16] == stream[0]
    assert stream[2][:32] == stream[1]
    assert len(set(stream[2])) == 64
    assert sorted(len(f) for f in families(channels(model, x[:2]))) == [16] * 5 + [32] * 4 + [64] * 3


def test_zeros_of_a_fixed_number_hold_their_channels():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(x) + F.pad(x, (0, 0, 0, 0, 1, 1))).mean((2, 3))

    torch.manual_seed(0)
    model = Padded()
    uses = {(use.layer, use.side): use.units.tolist() for use in channels(model, IMAGES)}
    assert uses["b", "out"] == [FIXED, *uses["a", "out"], FIXED]
    small = prune_channels(model, 0.5, example=IMAGES, scope="layer")
    assert (small.a.out_channels, small.b.out_channels) == (2, 4)
    torch.testing.assert_close(small(IMAGES), masked(model, small)(IMAGES))


def test_a_layer_that_is_called_twice_has_its_units_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.c(self.b(self.b(self.a(x).relu()).relu()).relu())

    torch.manual_seed(0)
    model, x = Twice(), torch.randn(4, 6)
    uses = {(use.layer, use.side): use.units.tolist() for use in channels(model, x)}
    assert uses["a", "out"] == uses["b", "in"] == uses["b", "out"] == uses["c", "in"]
    small = prune_channels(model, 0.5, example=x, scope="layer")
    assert small.b.weight.shape == (4, 4)
    torch.testing.assert_close(small(x), masked(model, small)(x))


def test_what_meets_pixels_or_logits_stays():
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1)

        def forward(self, x):
            inside = self.b(x + self.a(x))
            return {"logits": self.c(inside).mean((2, 3))}

    uses = {(use.layer, use.side): use.units.tolist() for use in channels(Ends(), IMAGES)}
    assert uses["a", "out"] == [FIXED] * 3
    assert uses["c", "out"] == [FIXED] * 4
    assert FIXED not in uses["b", "out"]


# the oracle


def theirs(model, x, ignored):
    """Torch-Pruning's account: the layers of every group."""
    graph = torch_pruning.DependencyGraph().build_dependency(copy.deepcopy(model), example_inputs=x)
    groups = graph.get_all_groups([graph.model.get_submodule(ignored)], [nn.Conv2d, nn.Linear])
    names = {layer: name for name, layer in graph.model.named_modules()}
    weighty = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    return [
        {names[item.dep.target.module] for item in group if isinstance(item.dep.target.module, weighty)}
        for group in groups
    ]


def layers_of(uses, units):
    return {use.layer for use in uses if torch.isin(use.units, units).any()}


@pytest.mark.parametrize(("kind", "last"), [("lenet-5", "fc2"), ("lenet-300-100", "fc3"), ("shortcut", "fc")])
def test_groups_equal_those_of_torch_pruning(kind, last):
    model, x = net(kind)
    uses = channels(model, x)
    ours = [layers_of(uses, family) for family in families(uses)]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, theirs(model, x, last)))


def test_groups_of_resnet_20_equal_those_of_torch_pruning():
    """Of the channels that every stage shares, and inside the blocks; ours also frees those that begin with a stage."""
    model, x = net("resnet-20")
    uses = channels(model, x)
    ours = [layers_of(uses, family) for family in families(uses)]
    stream, *inside = sorted(theirs(model, x, "fc"), key=len, reverse=True)
    assert [sorted(group) for group in inside if group not in ours] == []
    assert max(map(len, ours)) >= len(stream)
    assert stream <= max(ours, key=len)


@pytest.mark.parametrize("kind", ["lenet-5", "lenet-300-100", "shortcut", "resnet-20"])
def test_the_network_equals_that_of_torch_pruning_tensor_by_tensor(kind):
    """The same rows of every layer asked of both; of ResNet-20 inside the blocks, where they count as we do."""
    model, x = net(kind)
    uses = channels(model, x)
    other, gone = copy.deepcopy(model), []
    for family in families(uses):
        if kind == "resnet-20" and len(layers_of(uses, family)) > 3:
            continue
        use = next(use for use in uses if use.side == "out" and torch.isin(use.units, family).any())
        rows = torch.nonzero(torch.isin(use.units, family[1::3])).flatten().tolist()
        graph = torch_pruning.DependencyGraph().build_dependency(other, example_inputs=x)
        layer = other.get_submodule(use.layer)
        linear, conv = torch_pruning.prune_linear_out_channels, torch_pruning.prune_conv_out_channels
        graph.get_pruning_group(layer, linear if isinstance(layer, nn.Linear) else conv, idxs=rows).prune()
        gone.append(family[1::3])
    small = remove(model, uses, torch.cat(gone))
    assert shapes(small) == shapes(other) != shapes(model)
    assert all(value.equal(other.state_dict()[name]) for name, value in small.state_dict().items())


# importance


def test_l1_and_l2_by_hand(mlp):
    uses = channels(mlp, torch.randn(2, 1, 8, 8))
    units = next(use.units for use in uses if (use.layer, use.side) == ("1", "out"))
    weight = mlp[1].weight.detach()
    torch.testing.assert_close(unit_importance(mlp, uses, "l1")[units], weight.abs().sum(1))
    torch.testing.assert_close(unit_importance(mlp, uses, "l2")[units], weight.norm(dim=1))


def test_coupled_filters_are_ranked_by_their_sum():
    model, x = net("shortcut")
    uses = channels(model, x)
    units = next(use.units for use in uses if (use.layer, use.side) == ("conv2", "out"))
    banks = [model.conv2.weight, model.shortcut.weight, model.conv4.weight]
    torch.testing.assert_close(
        unit_importance(model, uses, "l1")[units], sum(w.detach().abs().sum((1, 2, 3)) for w in banks)
    )
    expected = sum(w.detach().square().sum((1, 2, 3)) for w in banks).sqrt()
    torch.testing.assert_close(unit_importance(model, uses, "l2")[units], expected)


def test_activation_is_what_readers_hear(trained, digits):
    uses = channels(trained, digits.train.x[:2])
    units = next(use.units for use in uses if (use.layer, use.side) == ("1", "out"))
    heard = trained[2](trained[1](digits.train.x.flatten(1))).detach()
    ranks = unit_importance(trained, uses, "activation", digits.train)
    torch.testing.assert_close(ranks[units], heard.abs().mean(0))


@pytest.mark.parametrize("kind", ["lenet-5", "shortcut", "concatenation"])
def test_taylor_is_the_slope_of_the_loss_when_a_unit_is_turned_down(kind):
    model, x = net(kind)
    model, x = model.double(), x.double()
    split, step = Split(x, torch.tensor([0, 1, 2, 3])), 1e-6
    uses = channels(model, x)
    ranks = unit_importance(model, uses, "taylor", split)
    for unit in [family[i].item() for family in families(uses) for i in (0, -1)]:
        losses = []
        for gain in (1 + step, 1 - step):
            louder = copy.deepcopy(model)
            for use in uses:
                if use.side == "in":
                    layer = louder.get_submodule(use.layer)
                    layer.weight.data[:, use.units == unit] *= gain
            losses.append(F.cross_entropy(louder(x), split.y, reduction="none").detach())
        slope = ((losses[0] - losses[1]) / (2 * step)).abs().mean().item()
        assert ranks[unit].item() == pytest.approx(slope, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_a_importance_beats_the_seeded_baseline(trained, digits, importance):
    x = digits.train.x[:2]
    small = prune_channels(trained, 0.5, example=x, scope="layer", importance=importance)
    at_random = [
        prune_channels(trained, 0.5, example=x, scope="layer", importance="random", seed=seed) for seed in range(5)
    ]
    lots = [lk.accuracy(m, digits.test)["accuracy"] for m in at_random]
    assert lk.accuracy(small, digits.test)["accuracy"] > sum(lots) / len(lots) + 0.03
    assert at_random[0][1].weight.equal(
        prune_channels(trained, 0.5, example=x, scope="layer", importance="random")[1].weight
    )
    assert not at_random[0][1].weight.equal(at_random[1][1].weight)


def test_a_wrong_sign_would_be_noticed(trained, digits):
    """The most important half taken away is worse than the least important half."""
    uses = channels(trained, digits.train.x[:2])
    ranks = unit_importance(trained, uses, "l1")
    good, bad = (remove(trained, uses, least_important(r, families(uses), 0.5, "layer")) for r in (ranks, -ranks))
    assert lk.accuracy(good, digits.test)["accuracy"] > lk.accuracy(bad, digits.test)["accuracy"] + 0.1


# the choice


def test_layer_scope_takes_the_same_share_of_every_family_and_global_does_not():
    ranks, sets = (
        torch.tensor([0.0, 1, 2, 3, 4, 10, 11, 12, 30]),
        [torch.tensor([1, 2, 3, 4]), torch.tensor([5, 6, 7, 8])],
    )
    assert sorted(least_important(ranks, sets, 0.5, "layer").tolist()) == [1, 2, 5, 6]
    # divided by the means 2.5 and 15.75: 0.4, 0.8, 1.2, (1.6) and 0.63, 0.70, 0.76, (1.9)
    assert sorted(least_important(ranks, sets, 0.5, "global").tolist()) == [1, 5, 6, 7]


@pytest.mark.parametrize(("scope", "sparsity"), list(itertools.product(SCOPES, [0.5, 0.9, 0.999])))
def test_one_unit_of_every_family_always_stays(scope, sparsity):
    sets = [torch.tensor([1]), torch.arange(2, 10), torch.arange(10, 40)]
    gone = least_important(torch.rand(40, generator=torch.Generator().manual_seed(0)), sets, sparsity, scope)
    assert all(not torch.isin(family, gone).all() for family in sets)
    assert len(gone) == len(gone.unique())


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("round_to", [1, 4, 8, 64])
def test_layers_keep_a_multiple_the_nearest_one_or_all_they_have(scope, round_to):
    sizes = [1, 6, 8, 20, 33]
    sets = list(torch.arange(1, 1 + sum(sizes)).split(sizes))
    ranks = torch.rand(1 + sum(sizes), generator=torch.Generator().manual_seed(0))
    for sparsity in (0.0, 0.3, 0.5, 0.9):
        exact, gone = (least_important(ranks, sets, sparsity, scope, n) for n in (1, round_to))
        for family in sets:
            wanted, kept = (len(family) - int(torch.isin(family, some).sum()) for some in (exact, gone))
            assert kept == len(family) or kept % round_to == 0
            assert kept >= min(round_to, len(family))
            assert abs(kept - wanted) <= round_to / 2 or kept in (round_to, len(family))
            leaves = family[torch.isin(family, gone)]
            assert (
                leaves.numel() == 0 or kept == 0 or ranks[leaves].max() < ranks[family[~torch.isin(family, gone)]].min()
            )


def test_a_pruned_network_has_channels_in_eights():
    model, x = net("resnet-20")
    small = prune_channels(model, 0.3, example=x, round_to=8)
    widths = {layer.out_channels for layer in small.modules() if isinstance(layer, nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths)
    assert widths != {16, 32, 64}


def test_layers_names_those_whose_units_may_leave():
    model, x = net("lenet-5")
    small = prune_channels(model, 0.5, example=x, layers=["fc1"])
    changed = {name for name, shape in shapes(small).items() if shape != shapes(model)[name]}
    assert changed == {"fc1.weight", "fc1.bias", "fc2.weight"}


def test_a_quantized_network_becomes_the_floats_it_stands_for(trained, digits):
    coarse = lk.quantize(trained, 4)
    small = prune_channels(coarse, 0.5, example=digits.train.x[:2], scope="layer")
    assert set(small[1].weight.flatten().tolist()) <= set(coarse[1].weight.flatten().tolist())
    assert small[1].weight.shape == (16, 64)


def test_a_use_is_plain_data():
    use = channels(*net("mlp"))[0]
    assert isinstance(use, Use)
    assert (use.layer, use.side, use.units.tolist()) == ("1", "in", [FIXED] * 192)


# what is refused


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"sparsity": 1.0}, ValueError, "sparsity is 1.0; allowed: a number in [0, 1)"),
        ({"sparsity": "half"}, TypeError, "sparsity is 'half'; allowed: a number in [0, 1)"),
        ({"scope": "all"}, ValueError, "scope is 'all'; allowed: 'layer', 'global'"),
        ({"importance": "size"}, ValueError, f"importance is 'size'; allowed: {', '.join(map(repr, IMPORTANCES))}"),
        ({"layers": ["conv"]}, ValueError, "layers names 'conv'; allowed: 1.weight, 3.weight"),
        ({"importance": "taylor"}, ValueError,
         "importance 'taylor' looks at images; give a Split of them as calibration"),
        ({"layers": ["3"]}, ValueError,
         "model Sequential has no unit to prune in 3: they are outputs of the network, its logits"),
    ],
)  # fmt: skip
def test_prune_channels_refuses(mlp, refuses, settings, error, said):
    refuses(error, said, prune_channels, mlp, example=torch.randn(2, 1, 8, 8), **({"sparsity": 0.5} | settings))


@pytest.mark.parametrize("importance", sorted({*IMPORTANCES} - {*FROM_IMAGES}))
def test_images_that_an_importance_does_not_use_are_refused(mlp, refuses, importance):
    x = torch.randn(2, 1, 8, 8)
    seen = Split(x, torch.tensor([0, 1]))
    said = (
        f"calibration is a Split; allowed with importance {importance!r}: None, only 'taylor' and 'activation' "
        "use images"
    )
    refuses(ValueError, said, prune_channels, mlp, 0.5, example=x, importance=importance, calibration=seen)
    refuses(ValueError, said, unit_importance, mlp, channels(mlp, x), importance, seen)


class Wired(nn.Module):
    """A convolution, something in between, and a reader."""

    def __init__(self, between, reader):
        super().__init__()
        self.conv, self.between, self.reader = nn.Conv2d(3, 4, 1), between, reader

    def forward(self, x):
        return self.reader(self.between(self.conv(x)))


class Call(nn.Module):
    """An operation as a module that is traced through."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


END = "; reader: they are outputs of the network, its logits"


@pytest.mark.parametrize(
    ("between", "reader", "said"),
    [
        (nn.GroupNorm(1, 4), nn.Conv2d(4, 2, 1), "they are all one unit"),
        (Call(lambda x: torch.fft.fft(x).real), nn.Conv2d(4, 2, 1),
         "they reach fft_fft in between, which is not followed"),
        (Call(lambda x: x.view(-1, 256)), nn.Linear(256, 2),
         "without some of them the network does not run: mat1 and mat2 shapes cannot be multiplied (2x256 and 128x2)"),
        (Call(lambda x: x[:, ::2]), nn.Conv2d(2, 2, 1),
         "they reach getitem in between, which takes some that are not neighbours"),
        (Call(lambda x: x.softmax(1)), nn.Conv2d(4, 2, 1),
         "they reach softmax in between, which mixes them with one another"),
        (Call(lambda x: x.mean(1)), nn.Linear(8, 2), "they reach mean in between, which mixes them with one another"),
        (nn.AvgPool3d((2, 1, 1)), nn.Conv2d(2, 2, 1),
         "they reach avg_pool3d in between, which mixes them with one another"),
        (Call(lambda x: x / x.shape[1] ** 0.5), nn.Conv2d(4, 2, 1),
         "without some of them the network computes something else than with zeros in their place"),
        (nn.Identity(), nn.Linear(8, 2), "they are outputs of the network, its logits"),
    ],
    ids=["groupnorm", "fft", "view", "slice", "softmax", "mean", "pooling over channels", "width", "linear"],
)  # fmt: skip
def test_what_holds_all_channels_is_named_with_its_cause(refuses, between, reader, said):
    refuses(ValueError, f"model Wired has no unit to prune in conv: {said}{END}", prune_channels,
            Wired(between, reader), 0.5, example=IMAGES, scope="layer")  # fmt: skip


@pytest.mark.parametrize(
    ("between", "reader"),
    [
        (nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)),
        (nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 2, 1)),
        (Call(lambda x: x.permute(0, 2, 3, 1)), nn.Linear(4, 2)),
        (Call(lambda x: x[:, : x.shape[1] // 2]), nn.Conv2d(2, 2, 1)),
    ],
    ids=["groupnorm", "grouped", "permute", "slice"],
)
def test_what_used_to_be_refused_is_followed(between, reader):
    torch.manual_seed(0)
    model = Wired(between, reader)
    if isinstance(between, nn.GroupNorm):
        between.bias.data.normal_()
    small = prune_channels(model, 0.5, example=IMAGES, scope="layer")
    assert small.conv.out_channels == 2
    torch.testing.assert_close(small(IMAGES), masked(model, small)(IMAGES))


def test_where_no_unit_that_may_leave_arrives_any_operation_is_allowed():
    torch.manual_seed(0)
    model = nn.Sequential(
        Wired(nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)), nn.Flatten(), nn.Linear(128, 6), nn.Linear(6, 3)
    )
    model[0].between.bias.data.normal_()
    small = prune_channels(model, 0.5, example=IMAGES, layers=["2"])
    assert shapes(small)["2.weight"] == (3, 128)
    torch.testing.assert_close(small(IMAGES), masked(model, small)(IMAGES))


def test_what_cannot_be_traced_or_run_is_refused(refuses):
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Linear(4, 4), Branching(), nn.Linear(4, 2))
    said = ("1 (Branching) reads a value that depends on the input (__bool__); allowed: a forward that takes the same "
            "path for every input")  # fmt: skip
    refuses(ValueError, said, prune_channels, model, 0.5, example=torch.randn(2, 4), scope="layer")
    with pytest.raises(ValueError, match=r"^model Sequential does not take the example \(\(2, 5\)\): mat1 and mat2"):
        prune_channels(model, 0.5, example=torch.randn(2, 5), scope="layer")
    refuses(
        TypeError,
        "model is a str; allowed: a torch.nn.Module",
        prune_channels,
        "lenet",
        0.5,
        example=torch.randn(2, 5),
        scope="layer",
    )


def test_tied_layers_are_held(refuses):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    tied = "they reach linear in 0, where 0.weight and 2.weight are one tensor"
    said = f"model Sequential has no unit to prune in 0: {tied}; 4: they are outputs of the network, its logits"
    refuses(ValueError, said, prune_channels, model, 0.5, example=torch.randn(2, 4), scope="layer")


# what used to be silently wrong


class Halves(nn.Module):
    """Two halves of the channels go different ways."""

    def __init__(self, cut):
        super().__init__()
        self.a, self.left, self.right, self.cut = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1), cut
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        u, v = self.cut(self.a(x), self.a.out_channels)
        return self.out((self.left(u).relu() + self.right(v).tanh()).mean((2, 3)))


@pytest.mark.parametrize(
    "cut",
    [lambda x, n: x.chunk(2, 1), lambda x, n: x.split(n // 2, 1), lambda x, n: (x[:, : n // 2], x[:, n // 2 :]),
     lambda x, n: x.unflatten(1, (2, -1)).unbind(1)],
    ids=["chunk", "split", "slices", "unbind"],
)  # fmt: skip
def test_halves_of_the_channels_lose_the_same_units(cut):
    torch.manual_seed(0)
    model = Halves(cut)
    units = next(use.units for use in channels(model, IMAGES) if (use.layer, use.side) == ("a", "out"))
    assert units[:4].equal(units[4:])
    assert len(units.unique()) == 4
    small = prune_channels(model, 0.5, example=IMAGES, layers=["a"])
    assert (small.a.out_channels, small.left.in_channels, small.right.in_channels) == (4, 2, 2)
    kept = [i for i, b in enumerate(model.a.bias.tolist()) if b in small.a.bias.tolist()]
    assert kept[2:] == [i + 4 for i in kept[:2]]
    with torch.no_grad():
        gone = [i for i in range(4) if i not in kept]
        model.left.weight[:, gone] = 0
        model.right.weight[:, gone] = 0
        torch.testing.assert_close(small(IMAGES), model(IMAGES))


@pytest.mark.parametrize("size", [8, 6])
def test_batchnorm_over_tokens_is_not_cut_with_the_neurons(size):
    torch.manual_seed(0)
    model = alive(nn.Sequential(nn.Linear(5, size), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(size, 3)))
    x = torch.randn(4, 8, 5)
    small = prune_channels(model, 0.5, example=x, scope="layer")
    assert (small[0].out_features, small[1].num_features) == (size // 2, 8)
    kept = [i for i, b in enumerate(model[0].bias.tolist()) if b in small[0].bias.tolist()]
    with torch.no_grad():
        model[3].weight[:, [i for i in range(size) if i not in kept]] = 0
        torch.testing.assert_close(small(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_other_kinds_of_floats(dtype, importance):
    model, x = net("lenet-5")
    images = Split(x.to(dtype), torch.tensor([0, 1, 2, 3]))
    ranks = {}
    for kind in (torch.float32, dtype):
        part = Split(x.to(kind), images.y)
        seen = part if importance in FROM_IMAGES else None
        small = prune_channels(
            model.to(kind), 0.5, example=part.x[:2], scope="layer", importance=importance, calibration=seen
        )
        ranks[kind] = unit_importance(model, channels(model, part.x[:2]), importance, seen)
    assert small.conv1.weight.dtype == dtype
    assert shapes(small)["fc2.weight"] == (10, 250)
    tolerance = 1e-4 if dtype == torch.float64 else 0.3
    torch.testing.assert_close(ranks[dtype], ranks[torch.float32], rtol=tolerance, atol=tolerance * ranks[dtype].mean())


def test_frozen_weights_stay_frozen():
    model, x = net("concatenation")
    for p in (model.left.weight, model.bn.bias, model.fc.bias):
        p.requires_grad_(False)
    small = prune_channels(model, 0.5, example=x, scope="layer")
    assert small.bn.bias.shape != model.bn.bias.shape
    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in small.named_parameters()} == frozen


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("rule", [nn.utils.spectral_norm, nn.utils.weight_norm], ids=lambda rule: rule.__name__)
def test_weights_that_an_older_rule_computes_become_ordinary_and_are_cut(rule):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), rule(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(5, 6)
    before = model(x)
    small = prune_channels(model, 0.5, example=x[:2], scope="layer")
    assert [tuple(p.shape) for p in small.parameters()] == [(4, 6), (4,), (4,), (4, 4), (3, 4), (3,)]
    first, second = ((small[i].bias[:, None] == model[i].bias[None]).any(0) for i in (0, 2))  # the units that are left
    inner = model[2](model[1](model[0](x)) * first).relu()
    torch.testing.assert_close(small(x), model[4](inner * second))
    torch.testing.assert_close(model(x), before)


def test_layers_that_are_named_are_not_skipped_in_silence(refuses):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 3))
    assert held(model, torch.randn(2, 6), ["0", "2"]) == {
        "2": "they reach softmax in 3, which mixes them with one another"
    }
    said = "model Sequential has no unit to prune in 2: they reach softmax in 3, which mixes them with one another"
    refuses(ValueError, said, prune_channels, model, 0.5, example=torch.randn(2, 6), scope="layer", layers=["0", "2"])


def test_the_example_and_the_model_are_left_alone():
    class Inplace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x += 1
            self.last = self.a(x).relu_()
            return self.b(self.last)

    model, x = Inplace(), torch.randn(2, 6)
    before = x.clone()
    small = prune_channels(model, 0.5, example=x, scope="layer")
    assert x.equal(before)
    assert not hasattr(model, "last")
    assert not hasattr(x, "_units")
    assert small.a.out_features == 3
    assert small.training
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in small.modules())


@pytest.mark.parametrize("importance", ["taylor", "activation"])
def test_a_dict_of_logits_is_ranked_as_the_logits_are(trained, digits, importance):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained

        def forward(self, x):
            return {"logits": self.net(x)}

    few = Split(digits.train.x[:64], digits.train.y[:64])
    uses = channels(trained, few.x[:2])
    plain = unit_importance(trained, uses, importance, few)
    assert unit_importance(Named(), channels(Named(), few.x[:2]), importance, few).equal(plain)
