"""Grids: torch's own fake-quantize kernels as the oracle, bit for bit."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from labkit.compress import grid as grids
from labkit.compress.grid import choose_grid, fake_quantize, to_floats, to_integers

finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-20)
rows = st.lists(st.lists(finite, min_size=3, max_size=3), min_size=1, max_size=8).map(torch.tensor)
schemes = st.one_of(
    st.tuples(st.integers(1, 8), st.just(False)),
    st.tuples(st.integers(2, 8), st.just(True)),
)


# the grid


@given(rows, schemes)
def test_per_tensor_equals_torch_bit_for_bit(x, scheme):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric)
    theirs = torch.fake_quantize_per_tensor_affine(x, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max)
    assert fake_quantize(x, grid).equal(theirs)


@given(rows, schemes)
def test_per_channel_equals_torch_bit_for_bit(x, scheme):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric, granularity="channel")
    theirs = torch.fake_quantize_per_channel_affine(
        x, grid.scale.flatten(), grid.zero_point.flatten(), 0, grid.quant_min, grid.quant_max
    )
    assert fake_quantize(x, grid).equal(theirs)


@given(rows, schemes, st.sampled_from(["tensor", "channel"]))
def test_nothing_moves_further_than_half_a_step(x, scheme, granularity):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric, granularity=granularity)
    low, high = ((end - grid.zero_point) * grid.scale for end in (grid.quant_min, grid.quant_max))
    error = (fake_quantize(x, grid) - x).abs()
    slack = 1e-5 * x.abs().max()  # of float32, and of a zero_point that was rounded
    inside = (x >= low) & (x <= high)
    assert (error <= grid.scale / 2 + slack)[inside].all()
    assert (error <= grid.scale * (0.5 + 1e-5) + slack).all() or symmetric or bits == 1


@given(rows, st.integers(1, 8), st.booleans(), st.sampled_from(["tensor", "channel"]), st.floats(51, 100))
def test_zero_stays_zero_and_integers_fit(x, bits, symmetric, granularity, percentile):
    x[0, 0] = 0
    grid = choose_grid(x, bits, symmetric=symmetric, granularity=granularity, percentile=percentile)
    q = to_integers(x, grid)
    assert to_floats(q, grid)[x == 0].abs().sum() == 0
    assert q.dtype == (torch.int8 if symmetric else torch.uint8)
    assert q.min() >= grid.quant_min
    assert q.max() <= grid.quant_max
    assert len(q.unique()) <= max(2**bits, 3 if symmetric else 2)
    assert (grid.scale > 0).all()


@given(rows, schemes)
def test_rounding_twice_is_rounding_once(x, scheme):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric)
    once = fake_quantize(x, grid)
    assert fake_quantize(once, grid).equal(once)


@pytest.mark.parametrize(("symmetric", "fewest"), [(True, 2), (False, 1)])
def test_more_bits_never_hurt(symmetric, fewest):
    """Among grids of one kind: the sign of one symmetric bit beats two bits that have to reach the largest weight."""
    x = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    grids = [choose_grid(x, bits, symmetric=symmetric) for bits in range(fewest, 9)]
    errors = [(fake_quantize(x, grid) - x).square().mean() for grid in grids]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


def test_ranges_by_hand():
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    symmetric, affine = choose_grid(x, 2), choose_grid(x, 2, symmetric=False)
    assert (symmetric.scale.item(), symmetric.zero_point.item()) == (pytest.approx(4 / 3), 0)
    assert (symmetric.quant_min, symmetric.quant_max) == (-2, 1)
    assert (affine.scale.item(), affine.zero_point.item()) == (1.0, 1)
    assert (affine.quant_min, affine.quant_max) == (0, 3)
    assert fake_quantize(x, affine).equal(x)
    assert choose_grid(x + 5, 2, symmetric=False).zero_point.item() == 0  # stretched to hold 0
    assert choose_grid(x - 5, 2, symmetric=False).zero_point.item() == 3


def test_one_symmetric_bit_is_the_sign_times_the_mean_magnitude():
    x = torch.tensor([[-1.0, 0.0, 3.0], [0.5, 0.5, 0.5]])
    assert fake_quantize(x, choose_grid(x, 1)).equal(torch.tensor([[-1.1, 0, 1.1], [1.1, 1.1, 1.1]]))
    by_row = fake_quantize(x, choose_grid(x, 1, granularity="channel"))
    assert by_row.equal(torch.tensor([[-2.0, 0, 2.0], [0.5, 0.5, 0.5]]))


def test_a_channel_has_a_grid_of_its_own():
    x = torch.tensor([[0.1, -0.1], [100.0, -100.0], [0.0, 0.0]])
    grid = choose_grid(x, 8, granularity="channel")
    assert grid.scale.shape == (3, 1)
    assert grid.scale.flatten().tolist() == pytest.approx([0.1 / 127.5, 100 / 127.5, 1.0])
    assert (fake_quantize(x, grid) - x)[0].abs().max() < 1e-3


@given(st.integers(0, 2**31), st.floats(51, 99.9), st.booleans())
def test_percentile_clips_to_the_quantiles_of_what_is_not_zero(seed, percentile, symmetric):
    x = torch.randn(1, 2_001, generator=torch.Generator().manual_seed(seed))
    with_zeros = torch.cat([x, torch.zeros(1, 5_000)], dim=1)
    ends = torch.tensor([1 - percentile / 100, percentile / 100])
    low, high = torch.quantile(x, ends, interpolation="nearest").tolist()
    low, high = min(low, 0), max(high, 0)
    for values in (x, with_zeros):
        grid = choose_grid(values, 6, symmetric=symmetric, percentile=percentile)
        span = 2 * max(-low, high) if symmetric else high - low
        assert grid.scale.item() == pytest.approx(span / 63, rel=0.02)


def range_row_by_row(rows, percentile):
    """(low, high) of each row between the percentiles of its values that are not zero, and 0."""
    ends = []
    for row in rows.numpy():
        values = np.sort(row[row != 0]) if row.any() else row[:1]
        last = len(values) - 1
        ends.append([values[round(last * (1 - percentile / 100))], values[round(last * percentile / 100)]])
    low, high = torch.tensor(np.array(ends)).unbind(1)
    return low.clamp(max=0), high.clamp(min=0)


@st.composite
def sparse_rows(draw):
    """Rows of one entry or more, a third without zeros, a third all zero, some with many ties, some of one sign."""
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 40)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    x = torch.randn(shape, generator=generator, dtype=dtype) + draw(st.sampled_from([0, 5, -5]))
    x = (x * 2).round() / 2 if draw(st.booleans()) else x
    zeros = (3 * torch.rand(shape[0], 1, generator=generator) - 1).clamp(0, 1)
    return x * (torch.rand(shape, generator=generator) >= zeros)


@given(sparse_rows(), st.one_of(st.sampled_from([51, 75, 99, 99.9]), st.floats(50, 100, exclude_min=True)))
def test_the_range_of_many_rows_is_that_of_each(rows, percentile):
    both = zip(grids._value_range(rows, percentile), range_row_by_row(rows, percentile), strict=True)
    assert all(ours.equal(expected) for ours, expected in both)


def test_many_rows_take_as_many_calls_as_one():
    def calls(rows):
        count = 0

        def note(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            grids._value_range(rows, 99.0)
        finally:
            sys.setprofile(before)
        return count

    calls(torch.randn(1, 4))  # what the first call loads
    assert calls(torch.randn(1_000, 4)) == calls(torch.randn(1, 4))


def test_percentile_is_worth_it_with_an_outlier():
    x = torch.cat([torch.randn(1, 9_999, generator=torch.Generator().manual_seed(0)), torch.tensor([[50.0]])], dim=1)
    errors = [(fake_quantize(x, choose_grid(x, 4, percentile=p)) - x)[:, :-1].square().mean() for p in (100.0, 99.9)]
    assert errors[1] < errors[0] / 10


# groups


@st.composite
def in_groups(draw):
    """A tensor with some zeros and some large values, and a group size that divides its rows."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31)))).pow(3)
    entries = x[0].numel()
    return x * (x.abs() > 0.01), draw(st.sampled_from([n for n in range(1, entries + 1) if entries % n == 0]))


@given(in_groups(), st.integers(1, 8), st.booleans(), st.sampled_from([100.0, 90.0]))
def test_a_group_is_rounded_as_a_tensor_of_its_own(given_, bits, symmetric, percentile):
    x, size = given_
    how = dict(symmetric=symmetric, percentile=percentile)
    grid = choose_grid(x, bits, granularity="group", group_size=size, **how)
    q = to_integers(x, grid)
    groups = [group for row in x for group in row.flatten().split(size)]
    alone = [choose_grid(group, bits, **how) for group in groups]
    assert grid.scale.shape == grid.zero_point.shape == (len(x), x[0].numel() // size)
    torch.testing.assert_close(grid.scale.flatten(), torch.stack([g.scale for g in alone]), rtol=1e-6, atol=0)
    assert grid.zero_point.flatten().tolist() == [int(g.zero_point) for g in alone]
    by_hand = [to_integers(group, g) for group, g in zip(groups, alone, strict=True)]
    assert q.equal(torch.cat(by_hand).view(x.shape))
    assert not to_floats(q, grid)[x == 0].any()
    grids.check_grid(grid, tuple(x.shape))


@given(in_groups(), st.integers(1, 8), st.booleans(), st.sampled_from([100.0, 90.0]))
def test_a_group_as_long_as_a_row_is_a_channel(given_, bits, symmetric, percentile):
    x, how = given_[0], dict(symmetric=symmetric, percentile=percentile)
    group = choose_grid(x, bits, granularity="group", group_size=x[0].numel(), **how)
    channel = choose_grid(x, bits, granularity="channel", **how)
    assert group.scale.flatten().equal(channel.scale.flatten())
    assert group.zero_point.flatten().equal(channel.zero_point.flatten())
    assert to_integers(x, group).equal(to_integers(x, channel))
    assert fake_quantize(x, group).equal(fake_quantize(x, channel))


@given(in_groups())
def test_a_tensor_has_the_grids_that_can_be_chosen_and_no_others(given_):
    x, shape = given_[0], tuple(given_[0].shape)
    sizes = [n for n in range(1, x.numel() + 1) if x[0].numel() % n == 0]
    chosen = [choose_grid(x, 4), *(choose_grid(x, 4, granularity="channel", axis=i) for i in range(x.ndim))]
    chosen += [choose_grid(x, 4, granularity="group", group_size=n) for n in sizes]
    assert grids.grid_shapes(shape) == {tuple(grid.scale.shape) for grid in chosen}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_groups_follow_the_axes_not_the_memory(layout):
    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    grid = choose_grid(x, 8, granularity="group", group_size=4)
    assert grid.scale.equal(x.abs().amax((2, 3)) / 127.5)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_smaller_groups_err_less_where_tails_are_heavy(bits, symmetric):
    x = torch.randn(32, 256, generator=torch.Generator().manual_seed(0)).pow(3)
    grids = [choose_grid(x, bits, symmetric=symmetric, granularity="channel")]
    grids += [choose_grid(x, bits, symmetric=symmetric, granularity="group", group_size=n) for n in (128, 64, 16)]
    errors = [float((fake_quantize(x, grid) - x).square().mean()) for grid in grids]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2


@given(rows)
def test_choose_grid_refuses_nan(x):
    assume(x.numel())
    x[-1, -1] = float("nan")
    with pytest.raises(ValueError, match="^x holds 1 NaN or infinite values; allowed: finite numbers$"):
        choose_grid(x, 8)
