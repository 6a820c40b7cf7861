"""The panel of notebook 13b: any network, examples and metric; figures recomputed another way; bad input in words."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.colors import to_hex
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import labkit as lk
from labkit import explore
from labkit._module import clone
from labkit.compress import _weights
from labkit.data import Split, take
from labkit.drawing import RED
from labkit.significance import difference, wilson
from labkit.topics.your_own_model import merit as merits_module
from labkit.topics.your_own_model import own as own_module
from labkit.topics.your_own_model import panel as panel_module
from labkit.topics.your_own_model.merit import Merit, Metric, damage, examples_of
from labkit.topics.your_own_model.own import heat, hot_spots, layer_table, left_out, own_network
from labkit.topics.your_own_model.panel import YourModel, perplexity


def absolute_error(outputs, y):
    return (outputs - y).abs()


def root_mean_square(outputs, y):
    return float((outputs - y).square().mean().sqrt())


def macro_f1(logits, y):
    return f1_score(y, logits.argmax(1), average="macro")


def positions_right(logits, y):
    return logits.argmax(-1) == y  # (n, length)


@pytest.fixture(scope="module")
def regression():
    """A network and examples of a regression: linear in x, with noise."""
    torch.manual_seed(0)
    x = torch.randn(301, 12)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.BatchNorm1d(20), nn.Linear(20, 1)).eval()
    with torch.no_grad():
        return model, x, model(x) + 0.1 * torch.randn(301, 1)


class Tagger(nn.Module):
    """A class for each of 7 positions."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru, self.head = nn.Embedding(11, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.gru(self.embedding(x))[0])


@pytest.fixture(scope="module")
def tagging():
    torch.manual_seed(0)
    x = torch.randint(0, 11, (90, 7))
    model = Tagger().eval()
    with torch.no_grad():
        y = torch.where(torch.rand(90, 7) < 0.8, model(x).argmax(-1), torch.randint(0, 5, (90, 7)))
    return model, x, y


def settings(sparsity=0.5, bits=3, granularity="tensor", layer=""):
    return dict(sparsity=sparsity, bits=bits, granularity=granularity, layer=layer)


def points(own, **changed):
    return list(YourModel(own).results(**settings(**changed)))


def by_hand(model, sparsity=0.5, bits=3, granularity="tensor", layers=None):
    small = lk.prune(model, sparsity, scope="layer", layers=layers)
    return (small if bits == 32 else lk.quantize(small, bits, granularity=granularity, layers=layers)).eval()


def alone_by_hand(model, small, layer):
    """The network with one weight of the compressed one, copied by hand."""
    mixed = clone(model).eval()
    mixed.get_parameter(layer).data = _weights.weights(small)[layer].clone()
    return mixed


# the figure of merit


def test_accuracy_is_the_default_and_its_figures_are_those_of_labkit(conv, digits):
    own = own_network(conv, digits)
    point, small = points(own)[-1], by_hand(conv)
    expected = lk.accuracy(small, digits.validation)
    assert point.merit.value == expected["accuracy"]
    assert point.interval == (expected["accuracy_low"], expected["accuracy_high"])
    assert point.size_bytes == len(lk.encode(small))
    assert own.size_bytes == len(lk.encode(conv))
    lost = lk.compare(conv, small, digits.validation)
    assert point.units == pytest.approx(100 * (lost["lost"] - lost["won"]) / 300)
    for layer in own.layers:
        pairs = lk.compare(conv, alone_by_hand(conv, small, layer), digits.validation)
        assert point.damage[layer] == difference(pairs["lost"], pairs["won"], 300)


@pytest.mark.parametrize("metric", [absolute_error, root_mean_square])
def test_a_regression_is_scored_by_its_own_metric(regression, metric):
    model, x, y = regression
    own = own_network(model, (x, y), metric, "lower")
    point, small = points(own)[-1], by_hand(model)

    def score(network):
        with torch.no_grad():
            return float(torch.as_tensor(metric(network(x), y)).double().mean())

    assert own.merit.value == pytest.approx(score(model), rel=1e-5)
    assert point.merit.value == pytest.approx(score(small), rel=1e-5)
    assert point.units == pytest.approx(100 * (score(small) / score(model) - 1), rel=1e-3)
    for layer in own.layers:
        lost = score(alone_by_hand(model, small, layer)) - score(model)
        assert point.damage[layer][0] == pytest.approx(lost, rel=1e-3, abs=1e-6)
        assert point.damage[layer][1] <= point.damage[layer][0] <= point.damage[layer][2]


def test_a_score_for_each_position_is_averaged_over_the_positions_of_an_example(tagging):
    model, x, y = tagging
    own = own_network(model, (x, y), positions_right)
    small = by_hand(model)
    with torch.no_grad():
        expected = (small(x).argmax(-1) == y).double()
    point = points(own)[-1]
    assert point.merit.value == pytest.approx(float(expected.mean()))
    assert point.merit.kept.equal(expected.mean(1))
    assert not point.merit.shares
    low, high = point.interval
    normal = 1.96 * float(expected.mean(1).std()) / math.sqrt(90)
    assert low == pytest.approx(point.merit.value - normal, abs=0.25 * normal)
    assert high == pytest.approx(point.merit.value + normal, abs=0.25 * normal)


def test_a_metric_of_another_library_is_one_number(conv, digits):
    own = own_network(conv, digits, macro_f1)
    point, small = next(YourModel(own).results(**settings())), by_hand(conv)
    with torch.no_grad():
        predicted = small(digits.validation.x).argmax(1)
    assert not own.metric.each
    assert point.merit.value == f1_score(digits.validation.y, predicted, average="macro")


def test_perplexity_is_the_exponential_of_the_mean_loss():
    logits, y = torch.randn(40, 7), torch.arange(40) % 7
    expected = math.exp(sum(-math.log(float(row.softmax(0)[k])) for row, k in zip(logits, y, strict=True)) / 40)
    assert float(perplexity(logits, y)) == pytest.approx(expected, rel=1e-5)


def a_merit(kept, each=True, better="higher", of=None):
    return Merit(Metric("made up", of, better, each), kept, torch.zeros(len(kept)), len(kept))


def test_the_interval_of_right_and_wrong_is_wilsons():
    scores = torch.tensor([1.0, 0, 1, 1, 1, 0, 1]).double()
    assert a_merit(scores).interval == wilson(5, 7)


@pytest.mark.parametrize("each", [True, False])
def test_the_bootstrap_of_a_mean_is_near_the_normal_interval(each):
    scores = torch.randn(400, generator=torch.Generator().manual_seed(3)).double()
    merit = a_merit(scores, each, of=lambda outputs, y: outputs.mean())
    normal = 1.96 * float(scores.std()) / 20
    low, high = merit.interval
    assert (low, high) == pytest.approx(
        (float(scores.mean()) - normal, float(scores.mean()) + normal), abs=0.25 * normal
    )
    assert merit.interval == a_merit(scores, not each, of=lambda outputs, y: outputs.mean()).interval  # same draws


def test_damage_is_paired_so_that_noise_common_to_both_does_not_count():
    noise = torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
    before, after = a_merit(noise, better="lower"), a_merit(noise + 0.01, better="lower")
    assert damage(before, after) == pytest.approx((0.01, 0.01, 0.01))
    assert before.interval[1] - before.interval[0] > 0.1


def test_a_rise_is_damage_only_where_lower_is_better():
    low, high = torch.full((9,), 1.5).double(), torch.full((9,), 2.5).double()
    assert damage(a_merit(low), a_merit(high))[0] == -1
    assert damage(a_merit(low, better="lower"), a_merit(high, better="lower"))[0] == 1
    wrong, right = torch.zeros(9).double(), torch.ones(9).double()
    assert damage(a_merit(right), a_merit(wrong)) == difference(9, 0, 9)
    assert damage(a_merit(right, better="lower"), a_merit(wrong, better="lower")) == difference(0, 9, 9)


# examples


def test_every_form_of_examples_gives_the_same_figures(conv, digits):
    x, y = digits.validation.x, digits.validation.y
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    once = iter(loader)
    forms = [digits, digits.validation, (x, y), [x, y], loader, once, [(x[:100], y[:100]), (x[100:], y[100:])]]
    for form in forms:
        found = examples_of(form)
        assert found[0].equal(x)
        assert found[1].equal(y)
    assert points(own_network(conv, loader))[-1].merit.value == points(own_network(conv, digits))[-1].merit.value


REFUSED = {
    "text": ("digits", TypeError, "data is 'digits'; allowed: a labkit.Data, a pair"),
    "a dict": ({}, TypeError, "data is a dict; allowed: "),
    "no batch": ([], ValueError, "data has no batch; allowed: "),
    "three in a batch": (
        [(torch.zeros(2, 3), torch.zeros(2), torch.zeros(2))], TypeError,
        "batch 0 of data holds a tensor (2, 3), a tensor (2,), a tensor (2,); allowed: a pair of tensors",
    ),
    "inputs in a dict": (
        [({"ids": torch.zeros(2, 3)}, torch.zeros(2))], TypeError,
        "batch 0 of data holds a dict, a tensor (2,); allowed: a pair of tensors, x (n, …) and y (n, …)",
    ),
    "examples that are not batches": (
        [(torch.zeros(3), torch.tensor(1))], TypeError, "batch 0 of data holds a tensor (3,), a tensor (); allowed: ",
    ),
    "lengths": ((torch.zeros(3, 2), torch.zeros(4)), ValueError, "x has the shape (3, 2); allowed: (4, …)"),
    "shapes of batches": (
        [(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 4), torch.zeros(2))], ValueError,
        "the batches of data do not join: ",
    ),
    "a device": ((torch.zeros(2, 3, device="meta"), torch.zeros(2)), ValueError, "x is on the device meta; allowed: "),
    "nothing": ((torch.zeros(0, 3), torch.zeros(0)), ValueError, "x has the shape (0, 3)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_examples_that_cannot_be_used_are_refused_in_a_sentence(mlp, case):
    data, error, said = REFUSED[case]
    with pytest.raises(error) as raised:
        explore.your_model(mlp, data)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_a_metric_or_a_model_that_cannot_be_used_is_refused_in_a_sentence(regression, digits, mlp):
    model, x, y = regression

    def refused(error, said, *given, **named):
        with pytest.raises(error) as raised:
            explore.your_model(*given, **named)
        assert said in str(raised.value)

    refused(ValueError, "model and data belong together", model)
    refused(ValueError, "metric is given without a model", metric=absolute_error)
    refused(TypeError, "metric is a str; allowed: a function or None", model, (x, y), "rmse")
    refused(ValueError, "better is 'up'; allowed: 'higher', 'lower'", model, (x, y), absolute_error, better="up")
    refused(ValueError, "better is 'lower' without a metric", mlp, digits, better="lower")
    said = "metric <lambda> gives a str for 64 examples".replace("<lambda>", "metric")
    refused(TypeError, said, model, (x, y), lambda outputs, y: "good")
    said = "metric metric gives a tensor (3, 2) for 64 examples; allowed: a number, or a tensor (64, …)"
    refused(TypeError, said, model, (x, y), lambda outputs, y: torch.zeros(3, 2))
    said = "metric metric does not work on outputs a tensor (64, 1) and y (64, 1): no"

    def broken(outputs, y):
        raise KeyError("no")

    broken.__name__ = "metric"
    refused(ValueError, said.replace(": no", ": 'no'"), model, (x, y), broken)
    refused(ValueError, "allowed: logits (64, classes) of two classes or more", model, (x, torch.zeros(301).long()))
    refused(TypeError, "y has the dtype torch.float32; allowed: class numbers", model, (x, y))
    refused(ValueError, "x has the shape (64, 3)", model, (torch.zeros(301, 3), y), absolute_error)
    refused(ValueError, "of the network as it is is nan", model, (x, y), lambda outputs, y: math.nan)
    refused(ValueError, "has no weight of two or more dimensions", nn.ReLU(), (x, x), absolute_error)


def test_two_inputs_are_refused_and_outputs_in_a_dict_are_handed_to_the_metric(regression, refuses):
    model, x, y = regression

    class Two(nn.Linear):
        def forward(self, x, other):
            return x

    with pytest.raises(TypeError, match="model Two does not run on x alone"):
        explore.your_model(Two(12, 1), (x, y), absolute_error)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return {"value": self.inner(x), "n": len(x)}

    of_each = own_network(Named(), (x, y), lambda outputs, y: absolute_error(outputs["value"], y), "lower")
    assert of_each.merit.value == pytest.approx(own_network(model, (x, y), absolute_error, "lower").merit.value)
    with pytest.raises(TypeError, match="model Named returns a dict for 64 examples"):
        own_network(Named(), (x, y), lambda outputs, y: 1.0)


def test_the_users_network_and_examples_are_left_alone(regression):
    model, x, y = regression
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explore.your_model(model, (x, y), absolute_error, better="lower")
    assert model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    model.eval()


# layers


class Tied(nn.Module):
    """A head that shares the weight of the embedding, a frozen table, whole numbers, a layer used twice."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head, self.norm = nn.Embedding(9, 6), nn.Linear(6, 9), nn.LayerNorm(6)
        self.head.weight = self.embedding.weight
        self.inner = self.again = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("table", torch.ones(6, 6))
        self.register_buffer("ids", torch.ones(3, 3, dtype=torch.int32))

    def forward(self, x):
        z = self.norm(self.embedding(x)).mean(1) * self.scale
        return self.head(self.again(self.inner(z @ self.table).relu()))


def test_what_is_not_compressed_is_listed_with_the_reason():
    assert left_out(Tied()) == {
        "scale": "a vector",
        "table": "a buffer, not a parameter",
        "ids": "holds int32",
        "head.weight": "shares embedding.weight",
        "norm": "a normalization",
        "again.weight": "shares inner.weight",
    }
    assert left_out(nn.Sequential(nn.Linear(3, 3), nn.ReLU())) == {}


def test_every_parameter_is_compressed_or_listed(conv):
    for model in (conv, Tied(), Tagger(), lk.build("resnet-20"), lk.build("vit"), lk.build("char-transformer")):
        weights, others = set(_weights.weights(model)), left_out(model)
        for name, _ in model.named_parameters():
            layer = name.rpartition(".")[0]
            with_weight = any(weight.rpartition(".")[0] == layer for weight in {*weights, *others})
            assert name in weights or name in others or layer in others or with_weight, name


def test_a_quantized_network_lists_nothing_of_its_grids(conv):
    assert left_out(lk.quantize(conv, 4)) == left_out(conv) == {"1": "a normalization"}


def test_the_table_of_layers_tells_which_units_can_be_removed(conv, digits):
    table = layer_table(conv, digits.validation.x).set_index("layer")
    assert table["compressed"].to_dict() == {
        "0.weight": "yes", "3.weight": "yes", "6.weight": "yes", "1": "a normalization"
    }  # fmt: skip
    assert table["units"].to_dict() == {
        "0.weight": "can be removed",
        "3.weight": "can be removed",
        "6.weight": "they are outputs of the network, its logits",
        "1": "",
    }
    assert table["weights"].to_dict() == {"0.weight": 54, "3.weight": 648, "6.weight": 480, "1": 0}
    alone = layer_table(nn.Linear(3, 2), torch.zeros(4, 3))
    assert "outputs of the network" in alone["units"].item()


def test_a_tied_network_and_one_with_a_computed_weight_work():
    torch.manual_seed(0)
    x, y = torch.randint(0, 9, (60, 4)), torch.arange(60) % 9
    opened = explore.your_model(Tied(), (x, y))
    assert opened.status == "scored on all 60 examples; every layer tried alone"
    computed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 9))
    opened = explore.your_model(computed, (x.float(), y))
    assert opened.status == "scored on all 60 examples; every layer tried alone"
    assert opened.view.own.layers == ["0.weight", "2.weight"]


def test_hot_spots_are_the_ledger_times_the_damage(conv, digits):
    table = hot_spots(conv, digits, sparsity=0.5, bits=3).set_index("layer")
    small, own = by_hand(conv), own_network(conv, digits)
    ledger = lk.ledger(small).groupby("name")["bytes"].sum()
    point = points(own)[-1]
    assert list(table["heat"]) == sorted(table["heat"], reverse=True)
    for layer, row in table.iterrows():
        assert row["bytes"] == ledger[layer] == point.sizes[layer]
        assert row["share"] == ledger[layer] / len(lk.encode(small))
        assert (row["damage"], row["low"], row["high"]) == point.damage[layer]
        assert row["heat"] == pytest.approx(row["share"] * max(row["damage"], 0))
    assert point.hottest == table.index[0]
    assert heat(0.5, -1.0) == 0


# the view


def test_one_layer_is_that_layer_among_dense_ones_and_the_star_is_its_bar(conv, digits):
    own = own_network(conv, digits)
    found = points(own, layer="3.weight")[-1]
    small = by_hand(conv, layers=["3"])
    assert found.size_bytes == len(lk.encode(small))
    assert found.merit.value == lk.accuracy(small, digits.validation)["accuracy"]
    assert found.units == pytest.approx(100 * found.damage["3.weight"][0])
    assert found.damage == points(own)[-1].damage
    view = YourModel(own)
    view.draw(found)
    assert view.star.get_data()[1] == pytest.approx([-view.losses[1].get_width()])


def test_star_bars_and_dots_show_the_point(regression):
    model, x, y = regression
    own = own_network(model, (x, y), absolute_error, "lower")
    view = YourModel(own)
    *_, first = view.results(**settings(bits=8))
    *_, point = view.results(**settings())
    view.draw(point)
    unit = own.merit.value / 100
    assert own.unit == unit
    height = -math.asinh((point.merit.value - own.merit.value) / unit)
    assert view.star.get_data()[0] == [point.size_bytes]
    assert view.star.get_data()[1] == pytest.approx([height])
    low, high = point.interval
    ends = [-math.asinh((end - own.merit.value) / unit) for end in (low, high)]
    assert view.interval.get_data()[1] == pytest.approx(ends)
    assert [bar.get_width() for bar in view.bars] == [point.sizes[k] / point.size_bytes for k in own.layers]
    widths = [math.asinh(lost / unit) for lost, _, _ in point.damage.values()]
    assert [bar.get_width() for bar in view.losses] == pytest.approx(widths)
    colours = {layer: to_hex(bar.get_facecolor()).upper() for layer, bar in zip(own.layers, view.losses, strict=True)}
    assert [layer for layer, colour in colours.items() if colour == RED] == [point.hottest]
    assert list(view.dots.get_xdata()) == [first.size_bytes, point.size_bytes]
    ticks = [float(text.get_text()) for text in view.plane.get_yticklabels()]
    assert ticks[0] == pytest.approx(own.merit.value, rel=0.01)
    assert ticks[1] == pytest.approx(1.01 * own.merit.value, rel=0.01)
    assert len(view.live.marks()) > 5


def test_a_higher_metric_is_up_and_accuracy_reads_in_per_cent(conv, digits):
    own = own_network(conv, digits)
    view = YourModel(own)
    *_, point = view.results(**settings(sparsity=0.9, bits=2))
    view.draw(point)
    assert point.merit.value < own.merit.value
    assert view.star.get_data()[1][0] < 0
    assert view.plane.get_yticklabels()[0].get_text() == f"{100 * own.merit.value:.1f} %"
    assert view.alone.get_xlabel() == "points of accuracy lost"


def test_the_axes_reach_as_far_as_the_star_and_a_network_that_computes_nan_is_shown_in_words(regression):
    model, x, y = regression
    own = own_network(model, (x, y), lambda outputs, y: (outputs - y).abs() * 1e-3, "lower")
    view = YourModel(own)
    *_, point = view.results(**settings(bits=1))
    far = panel_module.replace(point, merit=panel_module.replace(point.merit, kept=point.merit.kept * 1e4))
    view.draw(far)
    assert view.plane.get_ylim()[0] < view.star.get_data()[1][0] < 0
    lost = panel_module.replace(point, merit=panel_module.replace(point.merit, kept=point.merit.kept * math.nan))
    view.draw(lost)
    assert len(view.star.get_data()[0]) == 0
    assert view.summarize(lost).cards[0][1] == "nan"


def test_a_network_of_many_layers_labels_some_of_them():
    torch.manual_seed(0)
    deep = nn.Sequential(*[nn.Linear(6, 6) for _ in range(70)])
    x, y = torch.randn(30, 6), torch.arange(30) % 6
    view = YourModel(own_network(deep, (x, y)))
    view.draw(next(view.results(**settings())))
    labels = [text.get_text() for text in view.shares.get_yticklabels()]
    assert labels == [str(i) for i in range(0, 70, 4)]
    assert len(view.bars) == len(view.losses) == 70
    hover = [words for *_, words, _ in view.live.hot()]
    assert hover == [f"{i}.weight" for i in range(70)]


def test_layers_follow_the_settled_figures_one_by_one(regression):
    model, x, y = regression
    found = points(own_network(model, (x, y), root_mean_square, "lower"))
    assert [len(p.damage) for p in found] == [0, 0, 1, 2]
    assert [p.interval is None for p in found] == [True, False, False, False]
    view = YourModel(found[0].dense)
    assert view.summarize(found[0]).status == "scored on all 301 examples; layer 0 of 2 tried alone"
    assert view.summarize(found[-1]).status == "scored on all 301 examples; every layer tried alone"
    assert view.summarize(found[0]).cards[3][1] == "…"


def test_a_preview_is_marked(conv, digits, monkeypatch):
    monkeypatch.setattr("labkit.live.score.PREVIEW", 0.0)
    monkeypatch.setattr("labkit.live.score.LATE", 0.0)
    monkeypatch.setattr("labkit.live.score.CACHED", 16)
    own = own_network(conv, digits)
    first = points(own)[0]
    assert first.merit.examples < 300
    few = take(digits.validation, first.merit.examples)
    assert first.merit.value == lk.accuracy(by_hand(conv), few)["accuracy"]
    gap = lk.accuracy(conv, few)["accuracy"] - first.merit.value
    assert first.units == pytest.approx(100 * gap)
    words = YourModel(own).summarize(first)
    assert words.status == f"preview on {first.merit.examples} of 300 examples; settling …"


def test_layers_are_tried_on_the_first_examples_only(conv, digits, monkeypatch):
    monkeypatch.setattr(own_module, "ALONE", 50)
    own = own_network(conv, digits)
    point, few = points(own)[-1], take(digits.validation, 50)
    pairs = lk.compare(conv, alone_by_hand(conv, by_hand(conv), "0.weight"), few)
    assert point.damage["0.weight"] == difference(pairs["lost"], pairs["won"], 50)
    assert point.merit.examples == 300


def test_the_cards_and_the_alt_text_state_the_figures(regression):
    model, x, y = regression
    opened = explore.your_model(model, (x, y), absolute_error, better="lower")
    shown, own = opened._shown, opened.view.own
    labels = [label for label, _, _ in opened.cards]
    assert labels == ["absolute error", "file", "weights left", "hottest layer", "stored as they are"]
    assert opened.cards[0][1] == f"{shown.merit.value:.4g}"
    assert opened.cards[0][2].endswith(f"dense {own.merit.value:.4g}")
    assert opened.cards[1][1] == f"{shown.size_bytes:,} B"
    assert opened.cards[3][2].startswith(f"{shown.share(shown.hottest):.0%} of the file · alone ")
    assert opened.cards[4][1:] == ("1", "2 (a normalization)")
    start = (
        "Sequential, 50 % of each layer pruned, weights rounded to 4 bits, one scale per layer (tensor), all layers: "
    )
    assert opened.alt.startswith(start)
    assert f"absolute error {own.merit.value:.4g} → {shown.merit.value:.4g}" in opened.title
    opened.set(bits=32)
    assert "scale" not in opened.alt
    opened.set("half pruned")
    assert opened.settings() == settings(bits=32)


def test_the_difference_to_a_pinned_result(regression):
    model, x, y = regression
    opened = explore.your_model(model, (x, y), absolute_error, better="lower")
    pinned = opened._shown
    opened.pin()
    opened.set(bits=2)
    said = opened.frame["pinned"]["difference"]
    change = opened._shown.merit.value - pinned.merit.value
    assert said == f"absolute error {change:+.2g}, file {pinned.size_bytes / opened._shown.size_bytes:.2f}× smaller"


@pytest.mark.parametrize(
    "chosen", [settings(), settings(0.3, 32), settings(0.0, 4, "channel"), settings(layer="0.weight")]
)
@pytest.mark.parametrize("metric", [None, absolute_error, root_mean_square])
def test_the_code_gives_the_figures_of_the_panel(regression, conv, digits, chosen, metric):
    if metric is None:
        names = dict(model=conv, x=digits.validation.x, y=digits.validation.y)
        own = own_network(conv, digits)
    else:
        names = dict(zip(("model", "x", "y"), regression, strict=True)) | dict(metric=metric)
        own = own_network(names["model"], (names["x"], names["y"]), metric, "lower")
    view = YourModel(own)
    *_, point = view.results(**chosen)
    *lines, figures = view.code(chosen).split("\n")
    exec("\n".join([*lines, f"value, size = {figures}"]), names)  # noqa: S102
    assert point.size_bytes == names["size"]
    assert point.merit.value == pytest.approx(names["value"], rel=1e-5)


@pytest.mark.slow
def test_without_a_network_the_panel_shows_the_perplexity_of_the_character_transformer():
    opened = explore.your_model()
    model, few = (
        lk.load_model(*panel_module.SHIPPED),
        take(lk.load_data("shakespeare").validation, panel_module.WINDOWS),
    )
    with torch.no_grad():
        expected = math.exp(float(F.cross_entropy(model(few.x), few.y)))
        small = math.exp(float(F.cross_entropy(by_hand(model, 0.5, 4)(few.x), few.y)))
    assert opened.view.own.merit.value == pytest.approx(expected, rel=1e-4)
    assert opened._shown.merit.value == pytest.approx(small, rel=1e-4)
    names = {}
    exec("\n".join(opened.view.code(opened.settings()).split("\n")[:-1]), names)  # noqa: S102
    assert len(lk.encode(names["small"])) == opened._shown.size_bytes


def test_the_resamples_are_the_same_for_every_network_and_run():
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    assert a_merit(scores).draws.equal(a_merit(scores.clone()).draws)
    assert len(a_merit(scores).draws) == merits_module.RESAMPLES == 200


def test_a_split_of_labkit_stands_for_its_tensors(conv, digits):
    few = Split(digits.validation.x[:80], digits.validation.y[:80])
    assert own_network(conv, few).merit.value == lk.accuracy(conv, few)["accuracy"]
    assert np.isfinite(own_network(conv, few).unit)


def test_no_change_is_not_minus_zero():
    assert Metric("accuracy", F.cross_entropy, percent=True).change(0.0) == "+0.0 points"
    assert Metric("accuracy", F.cross_entropy, percent=True).change(0.0123) == "-1.2 points"
    assert Metric("error", F.mse_loss, better="lower").change(0.0) == "+0"
