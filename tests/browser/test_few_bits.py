"""Panels of notebook 02c in a browser: a run streams, then its control run; a move restarts; figures equal fit's."""

import re

import pytest
import torch

import labkit as lk
from labkit.compress.gradients import integer_gradients
from tests.browser.live import (
    ONE_THREAD,
    card,
    handle,
    shown_value,
    streams,
    told,
    trained_panel,
    waited,
)

pytestmark = pytest.mark.browser
ENDED = re.compile(r"^trained: 430 steps; control run trained: 430 steps; scored on all")
ROUNDED = ("weights", "gradients")


@pytest.fixture(scope="module", params=ROUNDED)
def opened(request, url, chrome, notebooks):
    source = f"lk.explore.few_bits(rounded={request.param!r})"
    with trained_panel(url, chrome, notebooks, ONE_THREAD + source, ENDED) as found:
        yield request.param, found


def chosen(opened, wanted):
    rounded, panel = opened
    if rounded != wanted:
        pytest.skip(f"the panel of {wanted} only")
    return panel


def recomputed_weights(bits):
    """(the network trained for its grid, the one trained in float and rounded at the end)."""
    model, data = lk.load_model("lenet-300-100", "mnist"), lk.load_data("mnist")
    how = dict(epochs=1, lr=1e-3, progress=False)
    aware = lk.finish_qat(lk.fit(lk.prepare_qat(model, bits), data.train, **how)[0])
    return aware, lk.quantize(lk.fit(model, data.train, **how)[0], bits)


def recomputed_gradients(bits, stochastic):
    """(the network trained from new weights, the share of its gradients that were 0 in every step)."""
    torch.manual_seed(0)
    net, always = lk.build("lenet-300-100"), True

    def after_step(model, step):
        nonlocal always
        always = always & torch.cat([p.grad.flatten() == 0 for p in model.parameters()])

    how = dict(optimizer=integer_gradients(bits, stochastic=stochastic), after_step=after_step, progress=False)
    net, _ = lk.fit(net, lk.load_data("mnist").train, epochs=1, lr=2e-3, **how)
    return net, float(always.float().mean())


def per_cent(model):
    return f"{lk.accuracy(model, lk.load_data('mnist').validation)['accuracy']:.2%}"


def test_a_move_of_the_bits_starts_a_run_that_streams_and_its_control_run(opened):
    panel = chosen(opened, "weights")
    handle(panel, "weight bits").press("ArrowRight")
    told(panel, "weight bits 3, rounded straight through (QAT)")
    waited(panel, "training: ")
    assert streams(panel)
    handle(panel, "weight bits").press("Home")
    told(panel, "weight bits 1, rounded straight through (QAT)")
    assert shown_value(panel, "weight bits") == "1"
    waited(panel, re.compile("^trained: 430 steps; control run training: "))
    waited(panel, ENDED)
    aware, afterwards = recomputed_weights(1)
    assert card(panel, "accuracy")[0] == per_cent(aware)
    assert card(panel, "file")[0] == f"{len(lk.encode(aware)):,} B"
    assert card(panel, "control run: only afterwards")[0] == per_cent(afterwards)
    panel.get_by_label("round weights", exact=True).select_option("only afterwards")
    waited(panel, ENDED)
    told(panel, "weight bits 1, rounded only afterwards")
    assert card(panel, "control run: straight through")[0] == per_cent(aware)


def test_gradients_that_are_always_zero_are_counted(opened):
    panel = chosen(opened, "gradients")
    nearest, still = recomputed_gradients(2, stochastic=False)
    assert card(panel, "accuracy")[0] == per_cent(nearest)
    assert card(panel, "gradients 0 in every step")[0] == f"{still:.1%}"
    panel.get_by_label("round gradients", exact=True).select_option("stochastically")
    told(panel, "gradient bits 2, rounded stochastically")  # the control run of before is shown, not trained again
    waited(panel, ENDED)
    stochastic, still = recomputed_gradients(2, stochastic=True)
    assert card(panel, "accuracy")[0] == per_cent(stochastic)
    assert card(panel, "control run: to the nearest")[0] == per_cent(nearest)
    assert card(panel, "gradients 0 in every step")[0] == f"{still:.1%}"


def test_every_other_control_moves_the_picture(opened):
    panel = chosen(opened, "gradients")
    handle(panel, "gradient bits").press("ArrowRight")
    told(panel, "gradient bits 3")
    handle(panel, "epochs").press("ArrowRight")
    told(panel, "epochs 2")
    panel.get_by_label("optimizer", exact=True).select_option("SGD")
    told(panel, "SGD, peak lr 0.1")
    assert shown_value(panel, "peak lr") == "0.1"
    handle(panel, "peak lr").press("ArrowRight")
    told(panel, "SGD, peak lr 0.3")
    panel.get_by_label("start from", exact=True).select_option("trained weights")
    told(panel, "trained weights")
    panel.get_by_label("network", exact=True).select_option("lenet-300-100 on fashion-mnist")
    told(panel, "fashion-mnist")
    handle(panel, "gradient bits").press("End")
    told(panel, "weight bits 32 (float), gradient bits 32 (float)")
    waited(panel, re.compile("^trained: 860 steps; scored on all"))
