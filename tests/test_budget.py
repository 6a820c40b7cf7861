import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import labkit as lk
from labkit import budget as lkb
from labkit.budget.allocate import greedy, linear_program, uniform
from labkit.budget.choices import Choices, Table, unit_choices, weight_choices
from labkit.budget.swaps import swaps
from labkit.budget.training import trimmed
from labkit.compress.qat import floats_of
from labkit.measure import macs
from labkit.sweep import shipped_sweep


@pytest.fixture(scope="module")
def data():
    return lk.load_data("digits")


@pytest.fixture(scope="module")
def model(data):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10))
    torch.manual_seed(0)
    return lk.fit(net, data.train, epochs=8, lr=0.01, progress=False)[0]


@pytest.fixture(scope="module")
def table(model, data):
    coarse = weight_choices(model, dict(sparsity=(0, 0.5, 0.8, 0.95), bits=(8, 4, 2), percentile=(100, 98)))
    return lkb.measure_parts(model, lkb.sample(data.train, 500, 0), choices=coarse, progress=False)


@st.composite
def tables(draw):
    parts, choices = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    cells = st.lists(st.integers(1, 60), min_size=parts * choices, max_size=parts * choices)
    price, damage = (np.array(draw(cells), float).reshape(parts, choices) for _ in range(2))
    return price, damage, draw(st.integers(1, 250))


def test_the_linear_program_prints_nothing(capfd):
    rows = shipped_sweep("parts", "resnet-20", "cifar10")
    price, damage = (rows[name].to_numpy(float).reshape(20, -1) for name in ("price", "damage"))
    for budget in np.geomspace(price.min(1).sum() - 1, price.max(1).sum(), 20):
        linear_program(price, damage, budget)
    said = capfd.readouterr()
    assert said.out + said.err == ""


def spent(values, allocation):
    return sum(values[p, s] for p, s in enumerate(allocation))


@settings(max_examples=60, deadline=None)
@given(tables())
def test_the_linear_program_finds_what_trying_all_finds(given_table):
    price, damage, budget = given_table
    every = itertools.product(range(price.shape[1]), repeat=len(price))
    affordable = [a for a in every if spent(price, a) <= budget]
    found = linear_program(price, damage, budget)
    if not affordable:
        assert found is None
        return
    assert spent(price, found) <= budget
    assert spent(damage, found) == pytest.approx(min(spent(damage, a) for a in affordable))


@settings(max_examples=60, deadline=None)
@given(tables())
def test_greedy_and_uniform_fit_and_are_no_better_than_the_linear_program(given_table):
    price, damage, budget = given_table
    best = linear_program(price, damage, budget)
    for found in (greedy(price, damage, budget), uniform(price, damage, budget)):
        if found is not None:
            assert spent(price, found) <= budget
            assert spent(damage, found) >= spent(damage, best) - 1e-9
    alike = [s for s in range(price.shape[1]) if price[:, s].sum() <= budget]
    assert (uniform(price, damage, budget) is None) == (not alike)
    assert (greedy(price, damage, budget) is None) == (price.min(1).sum() > budget)


def invented(price, damage):
    """A table without a network."""
    none = Choices([f"part {p}" for p in range(len(price))], [], None, None, None, None, [], None)
    return Table(none, price, damage)


def test_a_method_that_finds_nothing_so_cheap_is_left_out():
    price = np.array([[1.0, 9], [9, 1]])
    choices = Choices(["a", "b"], [], lambda allocation: allocation, None, None, None, [], None)
    table, cost = Table(choices, price, np.zeros((2, 2))), lambda allocation: spent(price, allocation)
    assert lkb.allocations(table, cost, 5) == {"greedy": (0, 1), "linear program": (0, 1)}
    with pytest.raises(ValueError, match="budget is 1; allowed: 2 or more, what the cheapest setting costs"):
        lkb.allocations(table, cost, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_swaps_lower_the_joint_loss_within_the_budget(seed):
    rng = np.random.default_rng(seed)
    price, damage = rng.uniform(1, 9, (3, 5)), rng.uniform(0, 1, (3, 5))
    every = list(itertools.product(range(5), repeat=3))
    joint = {a: spent(damage, a) + rng.uniform(0, 1.5) for a in every}  # damages do not add
    budget = 18.0
    start = linear_program(price, damage, budget)
    if start is None:
        return
    asked = []

    def loss(allocation):
        asked.append(allocation)
        return joint[allocation]

    path = list(swaps(invented(price, damage), start, lambda a: spent(price, a) <= budget, loss))
    assert path[0] == (start, joint[start])
    assert [value for _, value in path] == sorted((value for _, value in path), reverse=True)
    assert all(spent(price, a) <= budget and joint[a] == value for a, value in path)
    assert len(asked) == len(set(asked)) == len(path)  # nothing is measured twice, each measurement is told


def test_swaps_find_a_pair_that_no_single_step_finds():
    price = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    damage = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    joint = {a: spent(damage, a) + (0.0 if a == (2, 0) else 0.3) for a in itertools.product(range(3), repeat=2)}
    *_, (found, _) = swaps(invented(price, damage), (1, 1), lambda a: spent(price, a) <= 4, joint.__getitem__)
    assert found == (2, 0)


def test_the_table_holds_what_the_files_and_the_losses_say(model, data, table):
    calibration, choices = lkb.sample(data.train, 500, 0), table.choices
    names, rows = list(dict(model.named_parameters()))[::2], choices.settings
    assert choices.parts == names
    dense = F.cross_entropy(model(calibration.x), calibration.y).item()
    for part, (first, second) in enumerate([(0, 5), (3, 23), (1, 8)]):
        nets = []
        for setting in (first, second):
            row = rows[setting]
            small = lk.prune(model, {names[part]: row["sparsity"]})
            nets.append(lk.quantize(small, row["bits"], layers=[names[part]], percentile=row["percentile"]))
            rise = F.cross_entropy(nets[-1](calibration.x), calibration.y).item() - dense
            assert table.damage[part, setting] == pytest.approx(rise, abs=1e-5)
        saved = len(lk.encode(nets[0])) - len(lk.encode(nets[1]))
        assert table.price[part, first] - table.price[part, second] == pytest.approx(saved, abs=8)  # header deflated


@pytest.mark.parametrize("budget", [1_200, 1_700, 2_500, 100_000])
def test_the_file_fits_and_no_candidate_has_less_loss_on_validation(model, data, table, budget):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, parts = lk.fit_budget(model, data, budget, table=table, images=500, tries=60, progress=False)
    assert len(lk.encode(small)) == parts.attrs["cost"] <= budget
    losses = {name: one["validation_loss"] for name, one in parts.attrs["candidates"].items()}
    assert parts.attrs["validation_loss"] == min(losses.values())
    with torch.no_grad():
        loss = float(F.cross_entropy(small(data.validation.x), data.validation.y))
    assert parts.attrs["validation_loss"] == pytest.approx(loss, abs=1e-5)
    assert all(one["cost"] <= budget for one in parts.attrs["candidates"].values())
    assert set(losses) == {"uniform", "greedy", "linear program", "swaps"}
    for name, weight in before.items():
        assert model.state_dict()[name].equal(weight)
    for row in parts.itertuples():
        weight = small.get_submodule(row.part.removesuffix(".weight")).weight
        assert float((weight == 0).float().mean()) >= row.sparsity - 1e-3
        assert len(weight.unique()) <= 2**row.bits


def test_the_sum_of_the_parts_is_not_the_whole(model, data, table):
    small, parts = lk.fit_budget(model, data, 1_200, table=table, images=500, tries=0, progress=False)
    few = lkb.sample(data.train, 500, 0)
    assert parts.attrs["predicted"] == pytest.approx(parts["damage"].sum())
    assert parts.attrs["measured"] == pytest.approx(lkb.loss_of(small, few) - lkb.loss_of(model, few), abs=1e-6)
    assert parts.attrs["measured"] != parts.attrs["predicted"]


def test_more_bytes_cost_no_loss(model, data, table):
    little, much = (
        lk.fit_budget(model, data, budget, table=table, images=500, tries=60, progress=False)[1].attrs["measured"]
        for budget in (1_200, 2_500)
    )
    assert much < little


def test_training_keeps_zeros_grids_and_the_budget(model, data, table):
    how = dict(table=table, images=500, tries=60, progress=False)
    small, parts = lk.fit_budget(model, data, 1_200, **how)
    trained, same = lk.fit_budget(model, data, 1_200, **how, epochs=4, lr=3e-3, batch_size=64)
    assert same[["part", "sparsity", "bits"]].equals(parts[["part", "sparsity", "bits"]])
    assert len(lk.encode(trained)) == same.attrs["cost"] <= 1_200
    for row in parts.itertuples():
        name = row.part.removesuffix(".weight")
        before, after = small.get_submodule(name).weight, trained.get_submodule(name).weight
        pruned = lk.prune(model, {row.part: row.sparsity}).get_submodule(name).weight == 0
        assert not after[pruned].any()
        assert len(after.unique()) <= 2**row.bits
        assert not before.equal(after)
    val = data.validation
    loss_of = lambda net: lkb.loss_of(net, val)  # noqa: E731
    assert loss_of(trained) < loss_of(small)


def test_what_outgrows_the_budget_is_pruned_and_no_more(model):
    ready = lk.prepare_qat(model, 4)
    cost = lambda net: len(lk.encode(net))  # noqa: E731
    size, before = cost(lk.finish_qat(ready)), lk.finish_qat(ready)
    fits = trimmed(ready, cost, size - 100)
    assert size - 140 < cost(lk.finish_qat(fits)) <= size - 100
    assert trimmed(ready, cost, size) is ready
    assert cost(lk.finish_qat(ready)) == size  # the given network does not change
    for name, (floats, grid) in floats_of(fits).items():  # what is nearest to 0 on its grid goes first, in every layer
        new = (floats == 0) & (floats_of(ready)[name][0] != 0)
        left = floats_of(ready)[name][0].abs() / grid.scale
        assert float(left[new].max()) < float(left[~new].min()), name
    assert all(fits[i].weight.equal(before[i].weight * (fits[i].weight != 0)) for i in (1, 3, 5))
    with pytest.raises(ValueError, match="budget is 10; allowed: more"):
        trimmed(ready, cost, 10)


def test_the_file_fits_after_every_epoch_and_zeros_stay(model, data):
    ready, sizes, zeros = lk.prepare_qat(lk.prune(model, 0.8), 4), [], []

    def look(net, step):
        zeros.append({name: floats == 0 for name, (floats, _) in floats_of(net).items()})
        if step.number % (step.total // 3) == 1 and step.number > 1:  # the first step of an epoch
            sizes.append(len(lk.encode(lk.finish_qat(net))))

    cost = lambda net: len(lk.encode(net))  # noqa: E731
    budget = round(0.97 * cost(lk.finish_qat(ready)))
    small = lkb.trained(ready, data.train, cost, budget, epochs=3, lr=0.01, progress=False, after_step=look)
    assert cost(small) <= budget
    assert len(sizes) == 2
    assert max(sizes) < 1.03 * budget
    at_ends = zeros[len(zeros) // 3], zeros[-1]  # after the first step of the second epoch, and the last
    assert all((later | ~earlier).all() for earlier, later in zip(*(z.values() for z in at_ends), strict=True))


def test_macs_and_latency_shrink_real_layers(model, data):
    whole = macs(model, data.train.x[0])
    small, parts = lk.fit_budget(model, data, whole / 2, "macs", images=300, tries=40, progress=False)
    assert macs(small, data.train.x[0]) == parts.attrs["cost"] <= whole / 2
    assert [small[i].out_features for i in (1, 3)] == [24 - row.removed for row in parts.itertuples()]
    milliseconds = 50 * lkb.latency_ms(model, data.train.x[:1])  # more than any load of the machine
    small, parts = lk.fit_budget(model, data, milliseconds, "latency", images=300, tries=4, progress=False)
    assert 0 < parts.attrs["cost"] <= milliseconds


def test_the_test_split_is_not_read(model, data, table):
    class Untouched:
        def __getattr__(self, name):
            raise AssertionError(f"test.{name} was read")

    blind = lk.Data(**{**vars(data), "test": data.validation})
    object.__setattr__(blind, "test", Untouched())
    lk.fit_budget(model, blind, 1_500, table=table, images=200, tries=5, progress=False)


def test_a_convolutional_network_with_batchnorm_fits(data):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip
    net, _ = lk.fit(net, data.train, epochs=2, lr=0.01, progress=False)
    small, parts = lk.fit_budget(net, data, 1_000, images=200, tries=10, progress=False)
    assert len(lk.encode(small)) <= 1_000
    assert parts["part"].tolist() == ["0.weight", "5.weight"]


def test_the_draw_of_the_images_depends_on_the_seed_alone(data):
    one, same, other = (lkb.sample(data.train, 50, seed) for seed in (0, 0, 1))
    assert one.x.equal(same.x)
    assert not one.x.equal(other.x)


def test_cancel_ends_the_search_with_what_it_has(model, data, table):
    small, parts = lk.fit_budget(
        model, data, 1_500, table=table, images=300, tries=10_000, progress=False, cancel=lambda: True
    )
    assert len(lk.encode(small)) <= 1_500
    assert parts.attrs["candidates"]["swaps"]["measured"] == min(
        one["measured"] for one in parts.attrs["candidates"].values()
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(budget=300), r"budget is 300; allowed: [\d,]+ or more"),
        (dict(budget=0), "budget is 0"),
        (dict(by="watts"), "by is 'watts'"),
        (dict(tries=-1), "tries is -1"),
        (dict(images=0), "images is 0"),
        (dict(epochs=-1), "epochs is -1"),
    ],
)
def test_refusals(model, data, table, changes, said):
    how = dict(budget=1_500, by="bytes", images=100, tries=2, progress=False) | changes
    with pytest.raises(ValueError, match=said):
        lk.fit_budget(model, data, **how)


WRAPPED = {
    "in a wrapper": lambda net: nn.DataParallel(net),
    "pruned by torch": lambda net: (torch.nn.utils.prune.l1_unstructured(net[1], "weight", 0.5), net)[1],
    "already quantized": lambda net: lk.quantize(net, 4),
    "with a tied weight": lambda net: (setattr(net[5], "weight", net[3].weight), net)[1],
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_part_is_what_the_routines_make_of_the_whole_network(wrap):
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24)
    net = wrap(nn.Sequential(*layers))
    choices = weight_choices(net, dict(sparsity=(0.5,), bits=(8, 3), percentile=(100, 98)))
    for p, name in enumerate(choices.parts):
        for s, row in enumerate(choices.settings):
            pruned = lk.prune(net, {name: row["sparsity"]})
            whole = lk.quantize(pruned, row["bits"], layers=[name], percentile=row["percentile"])
            assert lk.encode(choices.alone(p, s)) == lk.encode(whole)


def test_a_table_of_another_network_or_of_another_kind_is_refused(model, data, table):
    other = lk.fit(model, data.train, epochs=1, lr=0.01, progress=False)[0]
    with pytest.raises(ValueError, match="table is of a network with other weights"):
        lk.fit_budget(other, data, 1_500, table=table, progress=False)
    with pytest.raises(ValueError, match="table has the settings of weights, for bytes; allowed for by='macs'"):
        lk.fit_budget(model, data, 2_000, "macs", table=table, progress=False)


def test_all_training_images_serve_where_there_are_fewer_than_a_thousand(model, data, table):
    few = lk.Data(**{**vars(data), "train": lk.data.take(data.train, 300)})
    small, _ = lk.fit_budget(model, few, 1_500, table=table, tries=0, progress=False)
    assert len(lk.encode(small)) <= 1_500


def test_the_units_that_are_removed_are_counted():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    choices = unit_choices(net, torch.rand(2, 1, 8, 8), lambda small: macs(small, torch.rand(1, 8, 8)))
    none = np.zeros((1, len(choices.settings)))
    for s in range(len(choices.settings)):
        rows = Table(choices, none, none).rows((s,))
        assert choices.build((s,))[1].out_features == 6 - rows["removed"].item()
