"""The article's network: torch's autograd as the oracle, and every fault put back must show where it can show."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import labkit as lk
from labkit.article import (
    ARTICLE,
    FAULTS,
    NO_DERIVATIVE,
    SOFTMAX,
    SUM,
    TANH,
    VARIANTS,
    Variant,
    arrays,
    backward,
    forward,
    gradient,
    gradient_check,
    gradient_errors,
    new_net,
    one_hot,
    predict,
    printed_gradient,
    prune,
    relative_error,
    softmax,
    step,
    targets,
    to_torch,
    train,
    trained,
)

SIZES = st.integers(1, 7)


def case(n=6, inputs=5, hidden=4, outputs=3, seed=0, init="scaled"):
    """A float64 network with biases that are not zero, inputs, and one-hot targets."""
    rng = np.random.default_rng(seed)
    net = {k: v.astype(np.float64) for k, v in new_net(inputs, hidden, outputs, seed=seed, init=init).items()}
    net |= {k: rng.normal(size=net[k].shape) for k in ("b1", "b2")}
    y = one_hot(rng.integers(0, outputs, n), outputs).astype(np.float64)
    return net, rng.normal(size=(n, inputs)), y


def autograd(net, x, y, head):
    """(loss, gradients) by torch."""
    p = {k: torch.tensor(v, requires_grad=True) for k, v in net.items()}
    z = torch.tanh(torch.tensor(x) @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    y = torch.tensor(y)
    loss = F.mse_loss(torch.tanh(z), y) if head is TANH else F.cross_entropy(z, y)
    loss.backward()
    return loss.item(), {k: v.grad.numpy() for k, v in p.items()}


def errors(variant, **shape):
    return gradient_errors(*case(**shape), variant)


@pytest.fixture(scope="module")
def flat(digits):
    """The digits as (inputs, one-hot targets) to train on, and (inputs, labels) held out."""
    x, labels = arrays(digits.train)
    return x, one_hot(labels, 10), *arrays(digits.validation)


def learnt(flat, epochs=8, lr=0.3, variant=None, net=None, seed=0, **settings):
    """(network, losses) of a network 64-16-10, or of `net`."""
    variant = variant or Variant()
    net = net or new_net(64, 16, 10, init=variant.init, seed=seed)
    return trained(net, flat[0], flat[1], lr=lr, epochs=epochs, variant=variant, seed=seed, **settings)


def right(net, flat):
    return float((predict(net, flat[2]) == flat[3]).mean())


# the gradient


@settings(deadline=None)
@pytest.mark.parametrize("head", [TANH, SOFTMAX], ids=["tanh", "softmax"])
@given(n=SIZES, inputs=SIZES, hidden=SIZES, outputs=SIZES, seed=st.integers(0, 10**6))
def test_loss_and_gradient_are_those_of_autograd(head, n, inputs, hidden, outputs, seed):
    net, x, y = case(n, inputs, hidden, outputs, seed)
    loss, slopes = gradient(net, x, y, head)
    expected, theirs = autograd(net, x, y, head)
    assert loss == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert {k: v.shape for k, v in slopes.items()} == {k: v.shape for k, v in net.items()}
    for name in net:
        np.testing.assert_allclose(slopes[name], theirs[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["mended", "softmax"])
def test_the_mended_networks_pass_the_check(name):
    assert max(errors(VARIANTS[name]).values()) < 1e-8


@settings(deadline=None, max_examples=30)
@given(n=st.integers(2, 7), outputs=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_each_wrong_slope_fails_the_check_by_a_factor_of_a_million(n, outputs, seed):
    for head in (NO_DERIVATIVE, SUM, ARTICLE):
        found = errors(Variant(head), n=n, outputs=outputs, seed=seed)
        assert max(found.values()) > 1e-2
        assert max(found.values()) > 1e6 * max(errors(Variant(), n=n, outputs=outputs, seed=seed).values())


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2"])
def test_the_check_finds_a_fault_in_one_parameter_and_names_it(name):
    def wrong(net, x, y, head):
        loss, slopes = gradient(net, x, y, head)
        return loss, slopes | {name: 1.1 * slopes[name]}

    found = errors(Variant(gradient=wrong))
    assert found[name] == pytest.approx(0.1 / 2.1, rel=1e-6)
    assert max(v for k, v in found.items() if k != name) < 1e-8


def test_a_hidden_derivative_left_out_shows_in_the_first_layer_alone():
    def wrong(net, x, y, head):
        a1, z2 = forward(net, x)
        dz2 = head.slope(head.output(z2), y)
        return head.loss(z2, y), backward(net, x, 0 * a1, dz2)  # 1 - 0² = 1

    slopes, mended = (f(*case(), TANH)[1] for f in (wrong, gradient))
    found = {k: relative_error(slopes[k], mended[k]) for k in slopes}
    assert {k for k, v in found.items() if v > 0} == {"W1", "b1", "W2"}  # W2 too, for its slope is read off A1
    assert found["W1"] > 0.1


def test_the_missing_mean_is_a_factor_and_nothing_else():
    net, x, y = case(n=10, outputs=10)
    ours, theirs = (gradient(net, x, y, head)[1] for head in (TANH, SUM))
    for name in net:
        np.testing.assert_allclose(theirs[name], 50 * ours[name], rtol=1e-12)  # n · outputs / 2


def test_the_articles_slope_is_right_for_another_loss():
    """The cross-entropy of (1 + Y) / 2 with the sigmoid of 2 Z2: tanh z = 2 sigmoid(2z) - 1."""
    other = replace(ARTICLE, loss=lambda z, y: float((np.logaddexp(0, 2 * z) - (1 + y) * z).sum()))
    assert max(errors(Variant(other)).values()) < 1e-8


def test_the_article_as_printed_stops_at_its_first_step():
    with pytest.raises(NameError, match="name 'A1' is not defined"):
        printed_gradient(*case(), TANH)
    assert FAULTS["A1 unknown"].gradient is printed_gradient


def test_positive_weights_leave_no_slope_that_a_float_can_hold(flat):
    slopes = gradient(new_net(64, 16, 10, init="positive"), flat[0][:10], flat[1][:10])[1]
    assert not slopes["W1"].any()
    assert gradient(new_net(64, 16, 10), flat[0][:10], flat[1][:10])[1]["W1"].any()


def test_random_targets_are_no_fault_that_the_check_could_see():
    assert FAULTS["random targets"] == Variant(targets="random")
    net, x, y = case()
    checked = gradient_check(net, x, np.random.default_rng(0).random(y.shape), FAULTS["random targets"])
    assert max(relative_error(*pair) for pair in checked.values()) < 1e-8


def test_a_check_of_some_entries_is_that_of_all_of_them():
    net, x, y = case(inputs=9)
    some, everything = gradient_check(net, x, y, entries=7, seed=3), gradient_check(net, x, y)
    for name, pair in some.items():
        assert [len(v) for v in pair] == [min(7, net[name].size)] * 2
        assert set(np.round(pair[0], 15)) <= set(np.round(everything[name][0], 15))
        np.testing.assert_allclose(*pair, atol=1e-10)


def test_a_float32_network_is_checked_in_float64():
    net, x, y = case()
    single = {k: v.astype(np.float32) for k, v in net.items()}
    given = single, x.astype(np.float32), y.astype(np.float32)
    assert max(gradient_errors(*given).values()) < 1e-8


def test_single_precision_and_steps_too_long_or_too_short_spoil_the_check():
    worst = {h: max(gradient_errors(*case(), h=h).values()) for h in (1e-1, 1e-5, 1e-12)}
    assert worst[1e-5] < 1e-8
    assert worst[1e-1] > 1e4 * worst[1e-5] < worst[1e-12]
    single = {h: max(gradient_errors(*case(), h=h, dtype=np.float32).values()) for h in (1e-1, 1e-2, 1e-3, 1e-5)}
    assert min(single.values()) > 1e-5
    assert single[1e-5] > 1e-2


@pytest.mark.parametrize(
    ("a", "n", "expected"),
    [([1, 2], [1, 2], 0), ([0, 0], [0, 0], 0), ([3], [-3], 1), ([1], [0], 1), ([3, 0], [1, 0], 0.5)],
)
def test_relative_error(a, n, expected):
    assert relative_error(np.array(a, float), np.array(n, float)) == expected


# beginning, heads


@pytest.mark.parametrize(("init", "low", "high"), [("scaled", -np.sqrt(6 / 300), np.sqrt(6 / 300)), ("positive", 0, 1)])
def test_weights_begin_where_they_should(init, low, high):
    net = new_net(200, 100, 10, init=init)
    assert {k: v.shape for k, v in net.items()} == dict(W1=(200, 100), b1=(100,), W2=(100, 10), b2=(10,))
    assert {v.dtype for v in net.values()} == {np.dtype(np.float32)}
    assert low <= net["W1"].min() < low + 0.01 < high - 0.01 < net["W1"].max() <= high
    assert not net["b1"].any()
    assert not net["b2"].any()
    np.testing.assert_array_equal(net["W1"], new_net(200, 100, 10, init=init)["W1"])
    assert (net["W1"] != new_net(200, 100, 10, init=init, seed=1)["W1"]).any()


def test_softmax_and_its_loss_do_not_overflow():
    z = np.array([[1e4, 0, -1e4]])
    np.testing.assert_array_equal(softmax(z), [[1, 0, 0]])
    assert SOFTMAX.loss(z, np.array([[0, 1, 0]])) == 1e4


def test_one_hot():
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_targets_are_the_labels_or_numbers_between_0_and_1(digits):
    labels = arrays(digits.train)[1]
    np.testing.assert_array_equal(targets(labels, 10), one_hot(labels, 10))
    noise = targets(labels, 10, "random")
    assert (noise.shape, noise.dtype) == ((1_197, 10), np.float32)
    assert 0 <= noise.min() < 0.01 < 0.99 < noise.max() < 1
    np.testing.assert_array_equal(noise, targets(labels[::-1], 10, "random"))
    assert (noise != targets(labels, 10, "random", seed=1)).any()


def test_arrays_are_the_images_row_by_row(digits):
    x, labels = arrays(digits.validation)
    np.testing.assert_array_equal(x[7].reshape(8, 8), digits.validation.x[7, 0])
    np.testing.assert_array_equal(labels, digits.validation.y)


# training


@pytest.mark.parametrize(("name", "lr", "seed"), [("mended", 0.3, 0), ("mended", 0.3, 1), ("softmax", 0.05, 0)])
def test_the_mended_networks_learn_the_digits(flat, name, lr, seed):
    net, losses = learnt(flat, epochs=20, lr=lr, variant=VARIANTS[name], seed=seed)
    assert right(net, flat) > 0.9
    assert np.mean(losses[-100:]) < 0.3 * losses[0]


def test_the_articles_code_on_real_digits_does_not_learn(flat):
    net, _ = learnt(flat, lr=0.01, variant=Variant(ARTICLE, init="positive"))
    assert right(net, flat) < 0.2


def test_mending_the_derivative_alone_stops_it_altogether(flat):
    """Saturated and with tanh′, not even the biases move: two faults of the article hide each other."""
    before = new_net(64, 64, 10, init="positive")
    net, _ = learnt(flat, epochs=1, lr=0.01, variant=Variant(SUM, init="positive"), net=before)
    assert all(np.array_equal(net[k], before[k]) for k in net)
    moved, _ = learnt(flat, epochs=1, lr=0.01, variant=Variant(ARTICLE, init="positive"), net=before)
    assert not np.array_equal(moved["b2"], before["b2"])


def test_random_targets_lower_the_loss_and_teach_nothing(flat):
    noise = targets(flat[1].argmax(1), 10, "random")
    net, losses = learnt((flat[0], noise, *flat[2:]))
    assert np.mean(losses[-100:]) < 0.5 * losses[0]
    assert right(net, flat) < 0.25


def test_training_is_the_steps_written_out(flat):
    x, y = flat[0][:25], flat[1][:25]
    expected = new_net(64, 4, 10)
    steps = list(train(expected, x, y, lr=0.5, epochs=2, batch_size=10, seed=7))
    net, losses = trained(expected, x, y, lr=0.5, epochs=2, batch_size=10, seed=7)
    assert losses == [loss for loss, _ in steps]
    rng = np.random.default_rng(7)
    for _ in range(2):
        order = rng.permutation(25)
        for batch in (order[:10], order[10:20], order[20:]):
            loss, slopes = gradient(expected, x[batch], y[batch])
            assert loss == steps[0][0]
            expected = {k: expected[k] - 0.5 * slopes[k] for k in expected}
            assert all(np.array_equal(steps[0][1][k], expected[k]) for k in expected)
            steps.pop(0)
    assert not steps
    assert trained(net, x, y, lr=0.5, epochs=0) == (net, [])
    for name in net:
        np.testing.assert_array_equal(net[name], expected[name])
        assert net[name].dtype == np.float32


def test_nothing_that_is_given_is_changed(flat):
    net, x, y = new_net(64, 8, 10), flat[0][:50].copy(), flat[1][:50].copy()
    before = copy.deepcopy((net, x, y))
    gradient_check(net, x, y, entries=5)
    thin, masks = prune(net, 0.05)
    held = copy.deepcopy((thin, masks))
    for _ in train(thin, x, y, lr=0.3, epochs=1, masks=masks):
        pass
    step(net, gradient(net, x, y)[1], 0.3)
    with torch.no_grad():
        to_torch(net)[1].weight.zero_()
    for now, then in (((net, x, y), before), ((thin, masks), held)):
        for part, was in zip(now, then, strict=True):
            if isinstance(part, dict):
                assert all(np.array_equal(part[k], was[k]) for k in was)
            else:
                np.testing.assert_array_equal(part, was)


# pruning


@settings(deadline=None, max_examples=40)
@given(hidden=st.integers(1, 20), threshold=st.floats(0, 0.4), seed=st.integers(0, 10**6))
def test_pruning_is_that_of_labkit(hidden, threshold, seed):
    net = new_net(12, hidden, 5, seed=seed)
    thin, masks = prune(net, threshold)
    expected = lk.prune(to_torch(net), threshold=threshold).state_dict()
    for name, value in to_torch(thin).state_dict().items():
        assert value.equal(expected[name])
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, thin[name] != 0)
    assert not any((np.signbit(v) & (v == 0)).any() for v in thin.values())  # no -0.0, which a file would have to keep


def test_a_weight_at_the_threshold_goes():
    net = new_net(2, 2, 1) | dict(W1=np.array([[0.25, -0.25], [0.5, -0.26]], np.float32))
    assert prune(net, 0.25)[0]["W1"].tolist() == [[0, 0], [0.5, pytest.approx(-0.26)]]
    assert prune(net, 0)[1]["W1"].all()


def test_a_torch_network_is_an_ordinary_one_and_draws_nothing_from_torchs_generator():
    state = torch.get_rng_state()
    model = to_torch(new_net(6, 4, 3))
    assert torch.get_rng_state().equal(state)
    assert [p.requires_grad for p in model.parameters()] == [True] * 4
    model(torch.ones(2, 1, 2, 3)).sum().backward()
    assert model[3].bias.grad.tolist() == [2, 2, 2]
    copy.deepcopy(model)


def test_pruned_weights_stay_away_while_the_rest_learns(flat):
    net, _ = learnt(flat)
    thin, masks = prune(net, 0.25)
    healed, _ = learnt(flat, net=thin, masks=masks, epochs=4)
    forgetful, _ = learnt(flat, net=thin, epochs=4)
    for name, mask in masks.items():
        assert not healed[name][~mask].any()
        assert not np.signbit(healed[name][~mask]).any()
        assert (healed[name][mask] != thin[name][mask]).any()
        assert forgetful[name][~mask].any()
    assert np.mean(~masks["W1"]) > 0.5
    assert right(healed, flat) > right(thin, flat) + 0.03


def test_the_torch_network_says_what_the_numpy_network_says(flat, digits, tmp_path):
    net, masks = prune(learnt(flat)[0], 0.1)
    model = to_torch(net)
    with torch.no_grad():
        np.testing.assert_allclose(model(digits.validation.x), forward(net, flat[2])[1], rtol=1e-4, atol=1e-5)
    assert lk.accuracy(model, digits.validation)["accuracy"] == pytest.approx(right(net, flat), abs=0.004)
    lk.save(model, tmp_path / "net.lk")
    again = lk.load(tmp_path / "net.lk", into=model)
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert mine.equal(theirs)
    dense = lk.measure(to_torch(learnt(flat)[0]), digits.validation)["size_bytes"]
    assert (tmp_path / "net.lk").stat().st_size < dense
    assert lk.measure(model, digits.validation)["sparsity"] == pytest.approx(
        np.mean(np.concatenate([~m.ravel() for m in masks.values()]))
    )


# bad input


def test_bad_input_is_refused_in_a_sentence(refuses, flat):
    net, x, y = new_net(64, 4, 10), flat[0][:20], flat[1][:20]
    refuses(ValueError, "init is 'zero'; allowed: 'scaled', 'positive'", new_net, 2, 2, 2, init="zero")
    refuses(ValueError, "hidden is 0; allowed: a whole number from 1 to 1000000", new_net, 2, 0, 2)
    refuses(ValueError, "labels lie in 0 to 3; allowed: 0 to 2", one_hot, np.array([0, 3]), 3)
    refuses(ValueError, "kind is 'noise'; allowed: 'labels', 'random'", targets, np.array([0]), 3, "noise")
    refuses(ValueError, "threshold is -1; allowed: a number in [0, inf]", prune, net, -1)
    refuses(ValueError, "threshold is nan; allowed: a number in [0, inf]", prune, net, float("nan"))
    refuses(ValueError, "h is 0; allowed: a number in (0, 1]", gradient_check, net, x, y, h=0)
    for wrong, said in (
        (dict(batch_size=21), "batch_size is 21; allowed: a whole number from 1 to 20"),
        (dict(epochs=-1), "epochs is -1; allowed: a whole number from 0 to 1000000"),
        (dict(lr=float("nan")), "lr is nan; allowed: a number in [0, inf)"),
    ):
        refuses(ValueError, said, lambda more=wrong: next(train(net, x, y, **(dict(lr=0.1, epochs=1) | more))))
