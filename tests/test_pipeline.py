"""The whole promise: a trained network becomes a small file that loads back equal and is nearly as accurate."""

import re
import textwrap
from pathlib import Path

import pytest

import labkit as lk

SPARSITIES, BITS = (0.8, 0.85, 0.9), 4
MAX_BYTES, MAX_LOSS = 45_000, 0.005


@pytest.fixture(scope="module")
def chosen():
    """The dense network, its data, and the smallest of three candidates that keeps its validation accuracy."""
    data, dense = lk.load_data("mnist"), lk.load_model("lenet-300-100", "mnist")
    floor = lk.accuracy(dense, data.validation)["accuracy"] - MAX_LOSS / 2
    candidates = []
    for sparsity in SPARSITIES:
        thin = lk.prune(dense, sparsity)
        hook = lk.KeepZeros(thin)
        thin, _ = lk.fit(thin, data.train, epochs=2, lr=1e-3, seed=0, after_step=hook, progress=False)
        candidates.append(lk.quantize(thin, BITS))
    good = [c for c in candidates if lk.accuracy(c, data.validation)["accuracy"] >= floor]
    return dense, data, min(good, key=lambda model: len(lk.encode(model)))


def test_the_file_is_small_and_loads_back_as_accurate_as_it_went(chosen, tmp_path):
    dense, data, small = chosen
    path = lk.save(small, tmp_path / "small.lk")
    again = lk.load(path, into=lk.build("lenet-300-100"))
    assert path.stat().st_size <= MAX_BYTES
    assert lk.compression_ratio(dense, again) >= 1_066_000 / MAX_BYTES
    assert lk.encode(again) == path.read_bytes()
    before, after, loaded = (lk.accuracy(model, data.test) for model in (dense, small, again))
    assert loaded == after
    assert before["accuracy"] - after["accuracy"] <= MAX_LOSS
    assert all(p.equal(q) for p, q in zip(small(data.test.x[:100]), again(data.test.x[:100]), strict=True))


def test_the_record_of_the_small_network_agrees_with_its_file(chosen, tmp_path):
    _, data, small = chosen
    record = lk.measure(small, data.validation)
    assert record["size_bytes"] == lk.save(small, tmp_path / "small.lk").stat().st_size
    assert record["size_bytes"] == lk.ledger(small)["bytes"].sum()
    assert record["sparsity"] >= min(SPARSITIES)
    assert record["nonzeros"] <= 0.2 * 266_200 + 410
    assert (record["parameters"], record["macs"]) == (266_610, 266_200)


def test_pruning_by_chance_is_worse_at_the_same_sparsity(chosen):
    dense, data, _ = chosen
    thin = lk.prune(dense, 0.8)
    chance = lk.prune(dense, 0.8, importance=lk.random_importance(0))
    gap = lk.compare(thin, chance, data.validation)
    assert gap["lost"] > gap["won"]
    assert gap["p"] < 1e-6


# what is written down runs


def code_blocks(text):
    """The Python of a Markdown file, one string a block."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def shortened(code):
    """The same code in less time: one epoch, no progress bar, and the panel closed again."""
    code = re.sub(r"epochs=\d+", "epochs=1, progress=False", code)
    return code.replace("lk.explore.overview()", "lk.explore.overview().close_all()")


DOCSTRING = textwrap.dedent(re.search(r"\n\n(    import labkit.*?)\n\n", lk.__doc__, re.DOTALL)[1])
README = Path(__file__).parents[1] / "README.md"


def test_the_lines_of_the_docstring_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(shortened(DOCSTRING), names)  # noqa: S102
    assert len(DOCSTRING.splitlines()) == 10
    assert (tmp_path / "small.lk").stat().st_size == len(lk.encode(names["small"]))
    assert lk.encode(names["again"]) == lk.encode(names["small"])
    assert lk.encode(names["model"]) == lk.encode(lk.load_model("lenet-300-100", "mnist"))  # never changed


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, blocks = {}, code_blocks(README.read_text())
    assert blocks
    for block in blocks:
        exec(shortened(block), names)  # noqa: S102
    assert "lk" in names


def test_every_public_name_is_there():
    assert [name for name in lk.__all__ if not hasattr(lk, name)] == []
    with pytest.raises(AttributeError, match="labkit has no 'prunes'; it has Data, Split, accuracy, "):
        lk.prunes  # noqa: B018
