"""The C header against labkit's integer network, constriction and Python's integers."""

import itertools
import math
import platform
import re
import struct
import tempfile
from pathlib import Path

import constriction
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import labkit as lk
from labkit.compress.integer import integer_only, times
from labkit.compress.quantize import quantize_inputs
from labkit.data import data_dir, load_data
from labkit.export import c_plan
from labkit.export.to_c import c
from labkit.store import CODERS
from labkit.store.file import entries
from labkit.zoo import load_model
from tests.export.c_code import (
    MODES,
    SANITIZED,
    build,
    has_sanitizers,
    reference,
    run,
    section_sizes,
    sum_in_doubles,
    sums_of,
)
from tests.unlabelled import unlabelled


def record(network):
    """A shipped record with inputs of 8 bits; its weights are those of the file."""
    path = data_dir() / "records" / f"{network}--augmented--seed0.lk"
    train = load_data("mnist").train
    return quantize_inputs(lk.load(path, into=lk.build(network)), 8, calibration=unlabelled(train.x[:1_000]))


@pytest.fixture(scope="module", params=("lenet-300-100", "lenet-5"))
def lenet(request, tmp_path_factory):
    """(model, header) of a record, context-coded."""
    model, data = record(request.param), load_data("mnist")
    folder = tmp_path_factory.mktemp("lenet")
    return model, c(model, data.test.x[:1], folder / "net.h", coders=CODERS, pixels=(data.mean, data.std))


@pytest.fixture
def sanitized(tmp_path):
    """Flags that find undefined behaviour, where the compiler has them."""
    return SANITIZED if has_sanitizers(tmp_path) else ("-O1",)


def small_net(*layers, shape, bits=4, sparsity=0.0, seed=0, **how):
    """(model, inputs) of random weights: quantized, with biases that are not 0."""
    torch.manual_seed(seed)
    model, x = nn.Sequential(*layers), torch.randn(64, *shape)
    if sparsity:
        model = lk.prune(model, sparsity=sparsity)
    return lk.quantize(model, bits, activation_bits=8, calibration=unlabelled(x), **how), x


# whole networks


@pytest.mark.slow
def test_all_test_images_have_equal_sums(lenet, monkeypatch):
    model, header = lenet
    images = load_data("mnist").test.x
    some = reference(model, images[:500])[1]
    sum_in_doubles(monkeypatch)
    x, sums = reference(model, images)
    assert len(x) == 10_000
    np.testing.assert_array_equal(sums[:500], some)
    np.testing.assert_array_equal(sums_of(build(header, flags=("-O2", "-DNETWORK_UNPACK")), x), sums)
    np.testing.assert_array_equal(sums_of(build(header), x[:300]), sums[:300])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lenet-300-100", "lenet-5"])
def test_images_have_equal_sums_in_8_bits(network, tmp_path, monkeypatch):
    data = load_data("mnist")
    sum_in_doubles(monkeypatch)
    model = lk.quantize(
        load_model(network, "mnist"),
        activation_bits=8,
        calibration=unlabelled(data.train.x[:256]),
        granularity="channel",
    )
    program = build(c(model, data.test.x[:1], tmp_path / "net.h"), flags=("-O2", "-DNETWORK_UNPACK"))
    x, sums = reference(model, data.test.x[:2_000])
    np.testing.assert_array_equal(sums_of(program, x), sums)


@pytest.mark.slow
def test_the_program_stays_within_its_memory(lenet, sanitized):
    model, header = lenet
    x, sums = reference(model, load_data("mnist").test.x[:20])
    for mode in MODES:
        np.testing.assert_array_equal(sums_of(build(header, flags=(*sanitized, *mode)), x), sums)


@pytest.mark.slow
def test_raw_pixels_become_the_inputs(lenet, tmp_path):
    model, header = lenet
    data = load_data("mnist")
    images = data.test.x[:2_000]
    pixels = (images * data.std + data.mean).mul(255).round().to(torch.uint8).numpy()
    main = """int main(void) {
        static uint8_t pixels[NETWORK_INPUTS], input[NETWORK_INPUTS];
        while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {
            network_quantize(pixels, input);
            fwrite(input, 1, sizeof input, stdout);
        }
        return 0;
    }"""
    assert run(build(header, main), pixels.tobytes()) == reference(model, images)[0].tobytes()


CONV = nn.Conv2d
NETS = {
    "one linear layer": lambda: small_net(nn.Flatten(), nn.Linear(12, 5), shape=(1, 3, 4)),
    "no bias, no ReLU": lambda: small_net(nn.Linear(9, 7, bias=False), nn.Linear(7, 3), shape=(9,)),
    "a ReLU at the end": lambda: small_net(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3), nn.ReLU(), shape=(9,)),
    "scales per channel": lambda: small_net(
        CONV(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 11), shape=(2, 6, 6), bits=8, granularity="channel"
    ),
    "stride, padding, dilation": lambda: small_net(
        CONV(3, 8, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2)), nn.ReLU(), CONV(8, 4, 1), shape=(3, 9, 8)
    ),
    "groups": lambda: small_net(CONV(4, 8, 3, groups=2, padding=1), CONV(8, 8, 3, groups=8), shape=(4, 7, 5)),
    "padding 'same'": lambda: small_net(CONV(2, 3, (4, 2), padding="same", dilation=(1, 2)), shape=(2, 6, 5)),
    "pooling": lambda: small_net(
        CONV(1, 5, 3), nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4),
        shape=(1, 9, 8),
    ),
    "pooling that skips": lambda: small_net(
        CONV(1, 5, 3), nn.ReLU(), nn.MaxPool2d((1, 2), stride=3), CONV(5, 2, 2), shape=(1, 11, 9)
    ),
    "one bit": lambda: small_net(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4), shape=(30,), bits=1, sparsity=0.6),
    "weights of 0 only": lambda: (
        lambda model, x: (zeroed(model), x)
    )(*small_net(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3), shape=(8,))),
    "a single row": lambda: small_net(nn.Linear(40, 1), shape=(40,), bits=5, sparsity=0.5),
    "a single column": lambda: small_net(nn.Linear(1, 40), nn.Linear(40, 2), shape=(1,), bits=5, sparsity=0.5),
}  # fmt: skip


def zeroed(model):
    """The same network with all weights 0."""
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.parametrizations.weight.original.data.zero_()
    return model


def check(model, x, folder, flags=("-O1",), coders=CODERS):
    """C and Python agree in both modes; returns the header."""
    header = c(model, x, folder / "net.h", coders=coders)
    inputs, sums = reference(model, x)
    for mode in MODES:
        np.testing.assert_array_equal(sums_of(build(header, flags=(*flags, *mode)), inputs), sums)
    return header


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # that torch copies the input
@pytest.mark.parametrize("net", NETS)
def test_every_kind_of_layer(net, tmp_path, sanitized, monkeypatch):
    if "dilation" in net or "same" in net:  # torch does not dilate a convolution of integers
        sum_in_doubles(monkeypatch)
    check(*NETS[net](), tmp_path, sanitized)


@pytest.mark.slow
@pytest.mark.parametrize("coder", ["raw", "huffman", "range", "context"])
@pytest.mark.parametrize(("bits", "sparsity"), [(1, 0.9), (2, 0.0), (3, 0.97), (4, 0.7), (5, 0.9), (8, 0.0), (8, 0.5)])
def test_every_coder(coder, bits, sparsity, tmp_path, sanitized):
    layers = (CONV(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 60), nn.ReLU(), nn.Linear(60, 7))
    model, x = small_net(*layers, shape=(2, 6, 6), bits=bits, sparsity=sparsity, seed=bits)
    check(model, x[:8], tmp_path, sanitized, coders=[coder])


@pytest.mark.slow
@given(st.data())
@settings(max_examples=25, phases=[Phase.generate])  # each example compiles four programs: no shrinking
def test_any_matrix_in_any_layout(data):
    rows, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 60))
    bits, kept = data.draw(st.integers(1, 8)), data.draw(st.sampled_from([0.02, 0.2, 0.7, 1.0]))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    limit = 1 if bits == 1 else 2 ** (bits - 1) - 1
    spread = data.draw(st.floats(0.3, 3)) * limit / 2
    q = np.rint(generator.normal(0, spread, (rows, columns))).clip(-limit, limit)
    q *= generator.random(q.shape) < kept
    for coder in ("raw", "huffman", "range", "context"):
        with tempfile.TemporaryDirectory() as folder:
            check_matrix(q, Path(folder), coder)


@pytest.mark.slow
@pytest.mark.parametrize("density", [4, 1, 0.2, 0.05])
@pytest.mark.parametrize("turned", [False, True])
def test_rows_of_very_different_density(turned, density, tmp_path):
    """Every class of neighbourhood comes about."""
    generator = np.random.default_rng(1)
    q = generator.integers(1, 16, (300, 90)) * generator.choice([-1, 1], (300, 90))
    in_row, in_column = generator.random((300, 1)) ** 12, generator.random((1, 90)) ** 12
    q *= generator.random((300, 90)) < density * np.maximum(in_row, in_column)
    check_matrix(q.T if turned else q, tmp_path, "context")


def check_matrix(q, folder, coder):
    """A linear layer of weights q (rows, columns): inputs that are 1 at one place each make the sums the weights."""
    rows, columns = q.shape
    model, x = small_net(nn.Linear(columns, rows, bias=False), shape=(columns,), bits=8)
    model[0].parametrizations.weight.original.data = torch.from_numpy(q).to(torch.int8)
    zero = integer_only(model).layers[0].zero_in
    step = 1 if zero < 255 else -1
    inputs = (zero + step * np.eye(columns, dtype=int)).astype(np.uint8)
    program = build(c(model, x, folder / "net.h", coders=[coder]), flags=("-O1",))
    np.testing.assert_array_equal(sums_of(program, inputs), q.T * step)


# parts of the engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A header that holds every decoder: each of the layers has another coder."""
    torch.manual_seed(3)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise((64, 60, 60, 60, 10))]
    dense, x = nn.Sequential(CONV(1, 4, 3), nn.Flatten(), *layers), torch.randn(64, 1, 6, 6)
    model = lk.quantize(lk.prune(dense, sparsity=0.6), activation_bits=8, calibration=unlabelled(x))
    coders = iter(["raw", "context", "range", "huffman", "raw"])
    with pytest.MonkeyPatch.context() as patch:
        stored = c_plan._stored
        patch.setattr(c_plan, "_stored", lambda weight, _: stored(weight.clamp(-15, 15), [next(coders)]))
        header = c(model, x, tmp_path_factory.mktemp("engine") / "net.h", pixels=(torch.zeros(1), torch.ones(1)))
    switches = re.findall(r"#define NETWORK_HAS_(\w+) (\d)", header.read_text())
    assert len(switches) == 7
    assert {value for _, value in switches} == {"1"}
    return header


KINDS = ((0.02, 6), (0.5, 3), (0.3, 3))  # kept, positive, above: the first probability, and trust


@given(st.lists(st.tuples(*[st.one_of(st.integers(0, 40), st.integers(0, 2**19))] * 6), min_size=50, max_size=200))
@settings(max_examples=20)
def test_probabilities_are_those_of_ieee_doubles(chance_program, cases):
    check_chances(chance_program, np.array(cases, np.uint32).reshape(-1, 3, 2))


def test_many_probabilities_are_those_of_ieee_doubles(chance_program):
    """Enough of them that each way of rounding comes about."""
    generator = np.random.default_rng(0)
    check_chances(chance_program, (2 ** generator.uniform(0, 19, (20_000, 3, 2)) - 1).astype(np.uint32))


def check_chances(program, counts):
    """`counts` (n, 3, 2), from the coarsest context to the finest, a no and a yes."""
    found = np.frombuffer(run(program, counts.tobytes()), REAL).reshape(-1, 3)
    for k, (first, trust) in enumerate(KINDS):
        for case, real in zip(counts.tolist(), found[:, k].tolist(), strict=True):
            share = first
            for no, yes in case:
                share = (yes + trust * share) / (no + yes + trust)
            assert real == as_real(share)


REAL = np.dtype([("m", "u8"), ("e", "i4")])


def as_real(x):
    """(m, e) with m · 2^-e = x > 0, m of 53 bits."""
    mantissa, exponent = math.frexp(x)
    return int(mantissa * 2**53), 53 - exponent


@pytest.fixture(scope="module")
def chance_program(engine):
    """Three levels of counts in; the probabilities of a yes out, one for each kind of question."""
    return build(
        engine,
        """int main(void) {
        static const int32_t contexts[3] = {0, 1, 2};
        while (fread(network_memory.counts, 8, 3, stdin) == 3) {
            int i;
            for (i = 0; i < 3; i++) {
                network_real first = i ? i == 1 ? network_positive_first : network_above_first : network_kept_first;
                network_real yes = network_yes(contexts, first, i ? 3 : 6);
                int32_t e = yes.e;
                fwrite(&yes.m, 8, 1, stdout);
                fwrite(&e, 4, 1, stdout);
            }
        }
        return 0;
    }""",
    )


@given(st.lists(st.floats(2.0**-40, 1), min_size=50), st.lists(st.integers(2**23 + 1, 2**24 - 3), min_size=50))
@settings(max_examples=30)
def test_a_probability_becomes_24_bits_as_in_constriction(clip_program, any_p, edges):
    """Also where 1 - p lies half-way between two doubles and its product with 2^24 - 2 next to a whole number."""
    below = [edge * 2**53 // (2**24 - 2) for edge in edges]  # 1 - p in units of 2^-53
    near = [(2 * (2**53 - t) + half) / 2**54 for t in below for half in (-3, -2, -1, 0, 1)]
    ps = [p for p in [*any_p, *near, 1.0, 2.0**-16, 1 - 2.0**-16, 1 - 2.0**-17, 0.5] if p > 0]
    found = np.frombuffer(run(clip_program, np.array([as_real(p) for p in ps], REAL).tobytes()), np.uint32)
    assert found.tolist() == [bernoulli_no(p) for p in np.clip(ps, 2.0**-16, 1 - 2.0**-16)]


def bernoulli_no(p):
    """What constriction makes of the probability p of a yes: that of a no, in units of 2^-24."""
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(np.zeros(1, np.int32), constriction.stream.model.Bernoulli(perfect=False), np.array([p]))
    return coder.pos()[1][1] // ((2**64 - 1) >> 24)


@pytest.fixture(scope="module")
def clip_program(engine):
    """Probabilities of a yes in; those of a no out, in units of 2^-24."""
    return build(
        engine,
        """int main(void) {
        network_real yes;
        int32_t e;
        while (fread(&yes.m, 8, 1, stdin) == 1 && fread(&e, 4, 1, stdin) == 1) {
            uint32_t no;
            yes.e = e;
            no = network_no(yes);
            fwrite(&no, 4, 1, stdout);
        }
        return 0;
    }""",
    )


@given(st.lists(st.lists(st.integers(0, 240), min_size=2, max_size=60), min_size=5, max_size=30))
@settings(max_examples=20)
def test_histograms_become_the_probabilities_of_constriction(table_program, tables):
    tables = [table for table in tables if np.count_nonzero(table) > 1]
    raw = b"".join(np.array([len(t), *t, *[0] * (60 - len(t))], np.uint16).tobytes() for t in tables)
    found = np.frombuffer(run(table_program, raw), np.uint32).reshape(-1, 61)
    for table, edges in zip(tables, found, strict=True):
        stored = np.array(table)
        shares = np.where(stored > 0, (16 + (stored - 1) % 16) << np.maximum(stored - 1, 0) // 16, 0)
        model = constriction.stream.model.Categorical(shares.astype(np.float64), perfect=False)
        for symbol in range(len(table)):
            coder = constriction.stream.queue.RangeEncoder()
            coder.encode(np.array([symbol], np.int32), model)
            low, size = coder.pos()[1]
            if coder.pos()[0] == 0:  # the coder has not written a word
                scale = (2**64 - 1) >> 24
                assert (low // scale, size // scale) == (edges[symbol], edges[symbol + 1] - edges[symbol])


@pytest.fixture(scope="module")
def table_program(engine):
    """Histograms in, with 16 steps per octave; where the intervals of the symbols begin out."""
    return build(
        engine,
        """int main(void) {
        static uint16_t stored[61];
        static network_stream s;
        while (fread(stored, 2, 61, stdin) == 61) {
            s.n = stored[0];
            network_range_table(&s, stored + 1, 16);
            fwrite(s.table, 4, 61, stdout);
        }
        return 0;
    }""",
    )


@given(
    st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(2**30, 2**31), st.integers(1, 62)), min_size=99)
)
@settings(max_examples=20)
def test_requantization_rounds_as_in_python(requantize_program, cases):
    raw = b"".join(struct.pack("<iiI", a, shift, m) for a, m, shift in cases)
    exact = [min(max((a * m + (1 << (shift - 1)) >> shift) + 100, 90), 250) for a, m, shift in cases]
    assert list(run(requantize_program, raw)) == exact
    in_torch = times(*(torch.tensor(column) for column in zip(*cases, strict=True)))
    assert (in_torch + 100).clamp(90, 250).tolist() == exact


@pytest.fixture(scope="module")
def requantize_program(engine):
    """(sum, shift, multiplier) in, a byte out; zero point 100, limits 90 and 250."""
    return build(
        engine,
        """int main(void) {
        int32_t given[2];
        uint32_t m;
        while (fread(given, 4, 2, stdin) == 2 && fread(&m, 4, 1, stdin) == 1) {
            uint8_t shift = (uint8_t)given[1];
            network_layer l = {0};
            l.multiplier = &m;
            l.shift = &shift;
            l.zero_out = 100;
            l.low = 90;
            l.high = 250;
            putchar(network_requantized(&l, 0, given[0]));
        }
        return 0;
    }""",
    )


# the header


def payload(header):
    """The bytes of compressed weights in a header."""
    numbers = re.search(r"network_payload\[\d+\] = \{([^}]*)\}", header.read_text()).group(1)
    return bytes(int(number) for number in numbers.split(","))


def test_the_payload_is_what_the_file_holds(tmp_path):
    model, x = small_net(CONV(2, 6, 3), nn.Flatten(), nn.Linear(96, 60), shape=(2, 6, 6), sparsity=0.8)
    for coder in CODERS:
        found = payload(c(model, x, tmp_path / "net.h", coders=[coder]))
        pieces = [e.raw for e in entries(model, [coder]) if e.name.endswith("weight") and e.component != "scales"]
        assert found == b"".join(map(bytes, pieces))


@pytest.mark.slow
@pytest.mark.parametrize("optimization", ["-O0", "-O1", "-O2", "-O3", "-Os"])
def test_no_warning_at_any_optimization(optimization, engine, lenet):
    for header in (engine, lenet[1]):
        for mode in MODES:
            build(header, flags=(optimization, *mode), compile_only=True)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the limits are those of x86-64")
def test_the_code_with_every_decoder_has_at_most_6_KB(engine):  # noqa: N802 - the unit
    assert 1_000 < section_sizes(build(engine, "", ("-Os",), compile_only=True))[".text"] <= 6 * 1024


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the limits are those of x86-64")
def test_a_record_takes_at_most_16_KB(lenet):  # noqa: N802 - the unit
    header = lenet[1]
    sizes = section_sizes(build(header, "", ("-Os",), compile_only=True))
    assert sizes[".text"] <= 6 * 1024
    constant = sum(size for name, size in sizes.items() if name.startswith((".text", ".rodata", ".data")))
    assert len(payload(header)) < constant <= 16 * 1024


@pytest.mark.parametrize("mode", MODES)
def test_the_stated_memory_holds_all_and_little_more(mode, engine):
    program = build(engine, 'int main(void) { printf("%d %d", (int)sizeof network_memory, NETWORK_RAM); }', mode)
    used, stated = map(int, run(program, b"").split())
    assert stated - 64 <= used <= stated


def test_less_memory_than_needed_does_not_compile(engine, tmp_path):
    text = re.sub(r"(#define NETWORK_RAM) \d+", r"\1 1000", engine.read_text())
    (tmp_path / "net.h").write_text(text)
    with pytest.raises(AssertionError, match="network_memory_is_within_ram"):
        build(tmp_path / "net.h")


def test_no_floating_point_no_allocation_no_library(engine):
    code = re.sub(r"/\*.*?\*/", "", engine.read_text(), flags=re.DOTALL)
    assert not re.search(r"\b(float|double|malloc|calloc|free|math)\b", code)
    assert re.findall(r"#include.*", code) == ["#include <stdint.h>"]


def test_classes_of_scales_per_channel_are_compared_as_logits(tmp_path):
    torch.manual_seed(5)
    layers = (nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 6))
    with torch.no_grad():
        layers[2].weight *= torch.logspace(-2, 1, 6)[:, None]
    model, x = small_net(*layers, shape=(10,), bits=8, granularity="channel")
    main = """int main(void) {
        static uint8_t input[NETWORK_INPUTS];
        while (fread(input, 1, sizeof input, stdin) == sizeof input) putchar(network_classify(input));
        return 0;
    }"""
    found = list(run(build(c(model, x, tmp_path / "net.h"), main), reference(model, x)[0].tobytes()))
    assert found == integer_only(model)(x).argmax(1).tolist()
    assert found != reference(model, x)[1].argmax(1).tolist()  # sums alone would give other classes


def test_pixels_of_several_channels(tmp_path):
    mean, std = torch.tensor([0.1, 0.4, 0.5]), torch.tensor([0.2, 0.3, 0.4])
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    x = (pixels.float() / 255 - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    model = lk.quantize(nn.Sequential(CONV(3, 2, 5)), activation_bits=8, calibration=unlabelled(x))
    main = """int main(void) {
        static uint8_t pixels[NETWORK_INPUTS], input[NETWORK_INPUTS];
        fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels ? network_quantize(pixels, input) : (void)0;
        fwrite(input, 1, sizeof input, stdout);
        return 0;
    }"""
    program = build(c(model, x, tmp_path / "net.h", pixels=(mean, std)), main)
    assert run(program, pixels[0].numpy().tobytes()) == reference(model, x[:1])[0].tobytes()


def test_every_name_begins_with_the_name(tmp_path):
    model, x = small_net(nn.Linear(9, 7), shape=(9,))
    text = c(model, x, tmp_path / "net.h", name="Tiny_2").read_text()
    assert "void Tiny_2_infer(const uint8_t *input, int32_t *logits);" in text
    assert "#define TINY_2_INPUTS 9\n" in text
    assert not re.search(r"\b(lk|LK|network|NETWORK)_", text)


def test_the_name_of_a_layer_cannot_end_a_comment(tmp_path):
    model, x = small_net(nn.Linear(9, 7), nn.Linear(7, 2), shape=(9,))
    model._modules = {f"*/ #error {name}": layer for name, layer in model._modules.items()}
    build(c(model, x, tmp_path / "net.h"))


def test_the_model_is_not_changed(tmp_path):
    model, x = small_net(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2), shape=(9,))
    before = lk.encode(model)
    path = tmp_path / "net.h"
    assert c(model, x, str(path)) == path
    assert lk.encode(model) == before


# refusals


def linear(**how):
    return small_net(nn.Linear(9, 7), shape=(9,), **how)


@pytest.mark.parametrize("name", ["", "2net", "net-work", "né", "a b", "net\n", "*/"])
def test_a_name_that_c_does_not_know(name, tmp_path, refuses):
    said = f"name is {name!r}; allowed: a letter, then letters, digits or _"
    refuses(ValueError, said, c, *linear(), tmp_path / "net.h", name=name)
    assert not list(tmp_path.iterdir())


def test_arguments_of_the_wrong_kind(tmp_path, refuses):
    model, x = linear()
    refuses(TypeError, "name is a int; allowed: a text", c, model, x, tmp_path / "net.h", name=3)
    refuses(TypeError, "example is a int; allowed: a torch.Tensor", c, model, 3, tmp_path / "net.h")
    said = "coders is 'zip'; allowed: 'raw', 'huffman', 'range', 'context'"
    refuses(ValueError, said, c, model, x, tmp_path / "net.h", coders=["zip"])
    said = "pixels has 2 means and 2 standard deviations; allowed: 1 or 9 of each"
    refuses(ValueError, said, c, model, x, tmp_path / "net.h", pixels=(torch.zeros(2), torch.ones(2)))


def test_an_example_of_another_shape(tmp_path):
    with pytest.raises(ValueError, match=r"^example has the shape \(3, 5\)"):
        c(linear()[0], torch.zeros(3, 5), tmp_path / "net.h")


def test_a_model_that_has_no_integer_version(tmp_path):
    with pytest.raises(ValueError, match=r"^0 is not quantized with its activations"):
        c(nn.Sequential(nn.Linear(9, 7)), torch.zeros(1, 9), tmp_path / "net.h")


def test_layers_that_c_does_not_know(tmp_path, refuses):
    pooled = small_net(nn.MaxPool2d(2), CONV(1, 2, 3), shape=(1, 8, 8))
    said = "max-pooling comes before 1, the first layer; allowed in C: after a layer"
    refuses(ValueError, said, c, *pooled, tmp_path / "net.h")
    twice = small_net(CONV(1, 2, 3), nn.MaxPool2d(2), nn.MaxPool2d(2), CONV(2, 2, 1), shape=(1, 8, 8))
    one = "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    said = f"0 is followed by {one}, {one}; allowed in C: one MaxPool2d without dilation"
    refuses(ValueError, said, c, *twice, tmp_path / "net.h")
    of_rows = small_net(nn.Linear(9, 7), shape=(4, 9))
    said = "0 gets inputs of 3 dimensions; allowed in C: 2"
    refuses(ValueError, said, c, *of_rows, tmp_path / "net.h")


def test_numbers_that_int32_or_a_shift_cannot_hold(tmp_path, refuses):
    wide, x = small_net(nn.Linear(60_000, 1), shape=(60_000,), bits=8)
    wide[0].parametrizations.weight.original.data.fill_(-128)
    step = float(wide[0].input_quantizer.scale * wide[0].parametrizations.weight[0].scale)
    wide[0].bias.data.fill_(2e9 * step)
    with pytest.raises(
        ValueError, match=r"^0 can have sums up to [\d,]+; allowed in C: below 2\^31, which int32 holds$"
    ):
        c(wide, x, tmp_path / "net.h")
    deep, x = small_net(nn.Linear(9, 7), nn.Linear(7, 2), shape=(9,))
    deep[1].input_quantizer.scale.fill_(1e12)
    with pytest.raises(ValueError, match=r"^0 has requantization shifts of \d+ to \d+ bits; allowed in C: 1 to 62$"):
        c(deep, x, tmp_path / "net.h")
    tall, x = small_net(nn.Linear(1, 65_536), shape=(1,))
    said = "0 has 65,536 outputs and 65,536 weights; allowed in C: 65,535 and 16,777,216"
    refuses(ValueError, said, c, tall, x, tmp_path / "net.h")
