"""The coders: exact inverses, as short as theory says, and never an exception but ValueError on a hostile stream."""

import contextlib
import heapq
import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.store import _wire, coding, huffman, index, packing

symbol_lists = st.one_of(
    st.lists(st.integers(0, 1), max_size=300),
    st.lists(st.integers(0, 15), max_size=300),
    st.lists(st.integers(0, 255), max_size=300),
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 7, 900]), max_size=300),
    st.integers(0, 255).flatmap(lambda s: st.lists(st.just(s), max_size=300)),
)
CODERS = {
    "huffman": (coding.huffman_encode, coding.huffman_decode, coding.huffman_size),
    "range": (coding.range_encode, coding.range_decode, coding.range_size),
}
coders = pytest.mark.parametrize("coder", CODERS)


def skewed(bits: int, n: int = 50_000, seed: int = 0) -> np.ndarray:
    """Symbols of a rounded bell, as weights are."""
    levels = 2**bits
    bell = np.random.default_rng(seed).normal(levels / 2, levels / 9 + 0.3, n)
    return bell.round().clip(0, levels - 1).astype(np.int64)


@coders
@given(values=symbol_lists)
def test_decoding_gives_back_what_was_encoded(coder: str, values: list[int]) -> None:
    encode, decode, size = CODERS[coder]
    symbols = np.array(values, np.int64)
    raw = encode(symbols)
    assert decode(raw, len(values)).tolist() == values
    assert abs(len(raw) - size(coding.counts_of(symbols))) <= (0 if coder == "huffman" else 2)


@coders
@pytest.mark.parametrize("bits", range(1, 9))
def test_large_streams_survive_and_cost_what_was_foretold(coder: str, bits: int) -> None:
    encode, decode, size = CODERS[coder]
    symbols = skewed(bits)
    raw = encode(symbols)
    assert np.array_equal(decode(raw, symbols.size), symbols)
    assert len(raw) == pytest.approx(size(coding.counts_of(symbols)), abs=0 if coder == "huffman" else 4)


@coders
@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_single_symbol_takes_no_bits_however_often_it_comes(coder: str, value: int) -> None:
    encode, decode, _ = CODERS[coder]
    once, often = (encode(np.full(n, value)) for n in (1, 100_000))
    assert once == often
    assert (decode(often, 100_000) == value).all()


@given(values=symbol_lists, extra=st.integers(0, 3))
def test_packing_is_undone_and_takes_the_bits_it_says(values: list[int], extra: int) -> None:
    symbols = np.array(values, np.int64)
    bits = coding.width(coding.counts_of(symbols)) + extra
    raw = coding.pack_bits(symbols, bits)
    assert len(raw) == coding.bytes_for(len(values), bits) == -(-len(values) * bits // 8)
    assert coding.unpack_bits(raw, len(values), bits).tolist() == values


@pytest.mark.parametrize("bits", range(1, 33))
def test_every_width_agrees_with_python_s_own_binary_digits(bits: int) -> None:
    symbols = np.random.default_rng(bits).integers(0, 2**bits, 101)
    symbols[:2] = 0, 2**bits - 1
    digits = "".join(f"{s:0{bits}b}" for s in symbols)
    digits += "0" * (-len(digits) % 8)
    assert coding.pack_bits(symbols, bits) == int(digits, 2).to_bytes(len(digits) // 8, "big")
    assert np.array_equal(coding.unpack_bits(coding.pack_bits(symbols, bits), 101, bits), symbols)


def test_a_symbol_too_wide_for_its_bits_is_named() -> None:
    with pytest.raises(ValueError, match="symbols run from 3 to 9; 3 bits hold 0 to 7"):
        coding.pack_bits(np.array([3, 9]), 3)


def optimal_bits(counts: list[int]) -> int:
    """The cost of the best prefix code: the sum of all joined counts of the textbook algorithm."""
    heap, total = sorted(c for c in counts if c), 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_huffman_lengths_are_optimal_and_form_a_full_code(counts: list[int]) -> None:
    array = np.array(counts)
    lengths = coding.huffman_lengths(array)
    assert (lengths @ array) == optimal_bits(counts)
    if np.count_nonzero(array) > 1:
        assert ((lengths > 0) == (array > 0)).all()
        assert sum(Fraction(1, 2 ** int(length)) for length in lengths if length) == 1  # Kraft
        n = sum(counts)
        assert coding.entropy_bits(array) <= lengths @ array + 1e-6 < coding.entropy_bits(array) + n + 2e-6


def test_codes_longer_than_the_reader_sees_are_shortened() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 45:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = coding.huffman_lengths(np.array(fibonacci))
    assert lengths.max() <= 32
    assert sum(Fraction(1, 2 ** int(length)) for length in lengths) == 1


def test_huffman_streams_longer_than_one_look_ahead_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huffman, "_CHUNK", 64)
    for bits in (1, 4, 8):
        symbols = skewed(bits, n=3000)
        assert np.array_equal(coding.huffman_decode(coding.huffman_encode(symbols), 3000), symbols)


def test_canonical_codes_are_the_textbook_s() -> None:
    # lengths 2, 1, 3, 3 (a, b, c, d) give b = 0, a = 10, c = 110, d = 111
    symbols = np.repeat([0, 1, 2, 3], [4, 8, 2, 2])
    _, _, payload = packing.read_table(coding.huffman_encode(symbols))
    assert payload == int("10" * 4 + "0" * 8 + "110" * 2 + "111" * 2 + "0000", 2).to_bytes(4, "big")


def test_entropy_agrees_with_cases_worked_by_hand() -> None:
    assert coding.entropy_bits(np.array([8, 8])) == 16
    assert coding.entropy_bits(np.array([2, 1, 0, 1])) == 6
    assert coding.entropy_bits(np.array([5])) == coding.entropy_bits(np.zeros(0, np.int64)) == 0


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_range_coder_all_but_reaches_the_entropy(bits: int) -> None:
    symbols = skewed(bits, n=200_000)
    entropy = coding.entropy_bits(coding.counts_of(symbols)) / 8
    assert entropy <= len(coding.range_encode(symbols)) <= 1.01 * entropy + 64


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001, 0.00005])
def test_rare_ones_in_a_mask_cost_little_more_than_their_entropy(share: float) -> None:
    mask = (np.random.default_rng(1).random(300_000) < share).astype(np.int64)
    mask[7] = 1
    raw = coding.range_encode(mask)
    assert len(raw) <= 1.01 * coding.entropy_bits(coding.counts_of(mask)) / 8 + 8
    assert np.array_equal(coding.range_decode(raw, mask.size), mask)


@given(symbol_lists)
def test_the_cheapest_coder_is_the_one_that_writes_least(values: list[int]) -> None:
    symbols = np.array(values, np.int64)
    counts = coding.counts_of(symbols)
    size, _ = coding.cheapest(counts)
    written = [len(coding.pack_bits(symbols, coding.width(counts))), len(coding.huffman_encode(symbols))]
    written.append(len(coding.range_encode(symbols)))
    assert size <= min(written) + 2


def test_more_symbols_than_a_table_can_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="symbols go up to 65536; allowed: below 65536"):
        coding.huffman_encode(np.array([0, 65536]))


@coders
@given(raw=st.binary(max_size=80), n=st.integers(0, 200))
@settings(max_examples=300)
def test_noise_is_refused_or_decoded(coder: str, raw: bytes, n: int) -> None:
    with contextlib.suppress(ValueError):
        assert len(CODERS[coder][1](raw, n)) == n


@coders
@given(data=st.data(), bits=st.sampled_from([1, 3, 8]))
@settings(max_examples=200)
def test_a_changed_stream_is_refused_or_decoded_never_worse(coder: str, data: st.DataObject, bits: int) -> None:
    symbols = skewed(bits, n=200)
    raw = bytearray(CODERS[coder][0](symbols))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.sampled_from([len(raw), place]))
    with contextlib.suppress(ValueError):
        assert len(CODERS[coder][1](bytes(raw[:end]), 200)) == 200


@coders
def test_bytes_after_the_last_symbol_are_refused(coder: str) -> None:
    encode, decode, _ = CODERS[coder]
    for symbols in (skewed(4, n=100), np.full(100, 3), np.zeros(0, np.int64)):
        with pytest.raises(ValueError, match=r"after its last|symbols take|its symbols make"):
            decode(encode(symbols) + b"\1", len(symbols))


# --- numbers in the header, gaps in the index ---


@given(st.integers(0, 2**64))
def test_varints_are_undone_and_short(n: int) -> None:
    raw = _wire.varint(n)
    assert len(raw) == max(1, -(-n.bit_length() // 7))
    reader = _wire.Reader(raw, "test")
    assert reader.varint() == n
    reader.end()


@given(st.integers(-(2**63), 2**63))
def test_signed_numbers_are_undone(n: int) -> None:
    assert _wire.Reader(_wire.signed(n), "test").signed() == n


def test_a_number_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="the header holds a number of more than ten bytes"):
        _wire.Reader(b"\xff" * 50, "header").varint()


@given(st.lists(st.booleans(), min_size=1, max_size=2000), st.integers(0, 3000), st.sampled_from(index.GAP_BITS))
def test_gaps_are_counted_without_being_split_and_lead_back(keep: list[bool], run: int, gap_bits: int) -> None:
    mask = np.array([*keep, *[False] * run, True])
    gaps = index._gaps(mask)
    symbols = index._split(gaps, gap_bits)
    assert symbols.max() < 2**gap_bits
    counted = np.bincount(symbols, minlength=2**gap_bits)
    assert index._gap_counts(np.bincount(gaps), gap_bits).tolist() == counted.tolist()
    # by hand: a filler moves on 2^bits - 1 places, any other symbol moves on and marks one place
    here, found = 0, []
    for symbol in symbols.tolist():
        here += symbol
        if symbol < 2**gap_bits - 1:
            found.append(here)
            here += 1
    assert found == np.flatnonzero(mask).tolist()


def test_every_pair_of_layout_and_price_is_what_was_written() -> None:
    rng = np.random.default_rng(0)
    for share, run in itertools.product((0.02, 0.3, 0.9), (1, 40)):
        keep = np.repeat(rng.random(4000 // run) < share, run)
        cheapest = index.cheapest_index(keep)
        assert sum(len(p.raw) for p in index.write_index(cheapest).pieces) <= cheapest.size + 2
