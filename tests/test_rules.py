"""Update rules, step for step against torch.optim in float64; and what tells them apart."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import optim
from labkit.optim import RULES, TORCHS, FollowRule
from labkit.train import fit

STEPS = 50
share = st.floats(0.05, 0.9999)  # nearer to 0 some g is divided by ε alone, which blows up what both round off
OPTIONS = {  # what each rule can be told, beside lr and weight_decay
    "SGD": {},
    "momentum": {"momentum": st.floats(0, 0.9999)},
    "Nesterov": {"momentum": st.floats(0.01, 0.9999)},  # torch's Nesterov refuses 0
    "Adagrad": {"eps": st.floats(1e-12, 1e-2)},
    "RMSprop": {"beta": share, "eps": st.floats(1e-12, 1e-2)},
} | dict.fromkeys(("Adam", "AMSGrad", "AdamW"), {"betas": st.tuples(share, share), "eps": st.floats(1e-12, 1e-2)})


def gradients(seed):
    """Fifty gradients that change sign, size and sparsity: nothing that a running mean could settle on."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(STEPS, 6, generator=generator, dtype=torch.float64)
    g *= 10 ** torch.randint(-3, 2, (STEPS, 1), generator=generator)
    return g * (torch.rand(STEPS, 6, generator=generator) < 0.8)


def torch_path(build, start, steps, **told):
    """The weights after every step of a torch optimizer."""
    w = start.clone().requires_grad_()
    stepper, places = build([w], **told), []
    for g in steps:
        w.grad = g.clone()
        stepper.step()
        places.append(w.detach().clone())
    return torch.stack(places)


def rule_path(rule, start, steps, **told):
    w, state, places = start, {}, []
    for g in steps:
        w, state = rule(w, g, state, **told)
        places.append(w)
    return torch.stack(places)


def start_of(seed):
    return torch.randn(6, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)


@pytest.mark.parametrize("name", RULES)
@given(data=st.data(), seed=st.integers(0, 10_000), lr=st.floats(1e-5, 1.0), weight_decay=st.floats(0, 0.3))
@settings(max_examples=60, deadline=None)
def test_fifty_steps_are_torchs(name, data, seed, lr, weight_decay):
    told = {option: data.draw(values, label=option) for option, values in OPTIONS[name].items()}
    start, steps = start_of(seed), gradients(seed)
    common = dict(lr=lr, weight_decay=weight_decay)
    ours = rule_path(RULES[name], start, steps, **common, **told)
    in_torch = {"alpha" if option == "beta" else option: value for option, value in told.items()}
    torch.testing.assert_close(
        ours, torch_path(TORCHS[name], start, steps, **common, **in_torch), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", RULES)
def test_the_defaults_are_torchs(name):
    start, steps = start_of(7), gradients(7)
    ours = rule_path(RULES[name], start, steps, lr=0.01)
    torch.testing.assert_close(ours, torch_path(TORCHS[name], start, steps, lr=0.01), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_changes_nothing_in_place(name):
    w, g = start_of(3), gradients(3)[0]
    kept = w.clone(), g.clone()
    new, state = RULES[name](w, g, {}, lr=0.1, weight_decay=0.1)
    before = {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}
    RULES[name](new, g, state, lr=0.1, weight_decay=0.1)
    assert w.equal(kept[0])
    assert g.equal(kept[1])
    assert all(state[key].equal(value) for key, value in before.items())


def first_step(name, g, **told):
    return -RULES[name](torch.zeros(2, dtype=torch.float64), torch.tensor(g, dtype=torch.float64), {}, **told)[0]


def test_the_first_step_of_adam_is_the_learning_rate_and_of_rmsprop_ten_times_that():
    wide = [1e-2, -1e3]
    for name in ("Adam", "AMSGrad", "AdamW", "Adagrad"):
        assert first_step(name, wide, lr=0.1).tolist() == pytest.approx([0.1, -0.1], rel=1e-5)
    assert first_step("RMSprop", wide, lr=0.1).tolist() == pytest.approx([1.0, -1.0], rel=1e-5)


def test_decay_inside_the_gradient_and_beside_it():
    w, g = torch.tensor([1.0, 1.0]), torch.tensor([1e-3, 10.0])
    inside, _ = optim.adam(w, g, {}, lr=0.1, weight_decay=0.5)
    beside, _ = optim.adamw(w, g, {}, lr=0.1, weight_decay=0.5)
    assert inside.tolist() == pytest.approx([0.9, 0.9], abs=1e-4)  # the decay is normalised away
    assert beside.tolist() == pytest.approx([0.85, 0.85], abs=1e-4)


def test_a_steady_gradient_moves_momentum_as_far_as_a_ten_times_larger_rate():
    steps = torch.ones(400, 1, dtype=torch.float64)
    path = rule_path(optim.momentum, torch.zeros(1, dtype=torch.float64), steps, lr=0.01)
    assert float(path[-2] - path[-1]) == pytest.approx(0.1, rel=1e-9)


def test_amsgrad_remembers_a_large_gradient_that_adam_forgets():
    steps = torch.tensor([[100.0]] + [[1.0]] * 300, dtype=torch.float64)
    adam, amsgrad = (
        rule_path(RULES[name], torch.zeros(1, dtype=torch.float64), steps, lr=0.1, betas=(0.0, 0.9))
        for name in ("Adam", "AMSGrad")
    )
    assert float(adam[-2] - adam[-1]) == pytest.approx(0.1, rel=1e-3)
    assert float(amsgrad[-2] - amsgrad[-1]) < 0.01


@pytest.mark.parametrize("name", RULES)
def test_fit_follows_a_rule_as_it_follows_torch(name, mlp, digits):
    how = dict(epochs=2, lr=1e-2, progress=False)
    ours, _ = fit(mlp, digits.train, optimizer=partial(FollowRule, rule=RULES[name]), **how)
    theirs, _ = fit(mlp, digits.train, optimizer=TORCHS[name], **how)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert not next(ours.parameters()).equal(next(mlp.parameters()))


def test_settings_reach_the_rule_and_each_parameter_has_a_state_of_its_own():
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    stepper = FollowRule([a, b], lr=0.5, rule=optim.momentum, momentum=0.5)
    for _ in range(2):
        a.grad, b.grad = torch.ones(2), None
        stepper.step()
    assert a.tolist() == [1 - 0.5 - 0.75] * 2
    assert b.tolist() == [1, 1]
