"""What the notebooks say is what they show: every figure in their prose is held to the number that it quotes.

It has to be, rounded, in an output of the same section, or a setting in the notebook's code, or a size of the shipped
data and networks. Any other is listed in `ELSEWHERE` by the words around it, with where it comes from: a calculation
with numbers of the notebook, a row of data/records/published.csv, or a source in words.
"""

import csv
import functools

import prose
import pytest
from prose import Figure

import labkit as lk
from labkit.data import data_dir
from labkit.zoo import RECIPES

NOTEBOOKS = sorted((data_dir().parent / "notebooks").glob("*.ipynb"))
# By notebook: words with one figure among them, and its source. "= 1066516 / 23558" is calculated from numbers of that
# notebook, "published: NAME" read in the rows of that method; anything else is a source in words.
ELSEWHERE: dict[str, dict[str, str]] = {
    "00": {
        "accuracy fall below 97 %": "a question",
        "Up to about 50 %": "a setting of the panel",
        "Close to 100 %": "an example",
        "going from 1 % to": "an example",
        "from 98 to 99 % is about as far as from 96 to 98 %": "log(0.99 / 0.01) - log(0.98 / 0.02) = 0.70; 0.71",
        "between 0 and 100 %": "what an accuracy is",
        "close to 100 %": "an example",
        "below 0.05": "the usual level",
        "**32 bits to 5 bits": "= 32",
        "45 times smaller": "= 1066516 / 23558",
        "that is 13,310 bytes": "= 266200 * (1 - 0.9) * 4 / 8",
        "has 23,558": "= 23558",
        "for instance 70 %": "a setting of the exercise",
    },
    "01": {
        "which read 98.1 %": "= 0.9808",
        "of the network, 98.1 %": "= 0.9808",
        "Losing 900 weights": "= 0.9 * 1000",
        "losing 211,680": "= 0.9 * 235200",
        "97.99 % is left": "= 97.99",
    },
    "02": {
        "4 bits, not 32": "the bits of a float32",
        "4 bits give 16 levels": "= 2**4",
        "the scale is 1.4": "= 2 * 0.70",
        "within 1.4 %": "= 100 * 1.0138 - 100",
        "is 0.02 points": "= 100 / 5000",
        "it costs 0.7 points": "= 98.02 - 97.30",
        "1 bit (82.7 %)": "= 82.68",
        "unclipped bits (36.6 %)": "= 36.56",
        "it spends 1.8 bits": "= 60628 * 8 / 266200",
        "is 17.6 times smaller": "= 1066516 / 60628",
        "1 bit loses 15 points": "= 98.43 - 83.40",
    },
    "02b": {
        "are enough for 95 %, if training may choose them. R": "the claim to be tested",
        "leaves 71": "= 70.84",
        "to 83 %": "= 82.68",
        "**2 bits**: 97.2 %": "= 97.24",
        "on a grid gave 36.6 %": "= 36.56",
        "The midpoint is 0.04": "= (0.70 - 0.62) / 2",
        "by 0.14 points at most": "= 97.90 - 97.76",
        "416 numbers": "= 300 + 100 + 10 + 2 + 2 + 2",
        "*Two values are enough for 95 %": "the claim to be tested",
        "with six epochs yes (95.8 %": "= 95.8",
    },
    "02c": {
        "clipping at 99 %": "labkit/topics/shared_weights/experiment.py",
        "0.25 becomes 1": "= 0.25",
        "The other 5 %": "= 100 - 95.3",
        "a factor of 127": "the n of the formula, for 8 bits and for 2",
        "Then lr 0.3": "a setting of the panel",
        "8,530 bytes shorter": "= 1084865 - 1076335",
        "costs 27 images": "= 453 - 426",
        "if u ≥ 0.75": "= 1 - 0.25",
        "with six epochs yes (97.9": "= 97.9",
        "against 98.1 % on validation": "= 98.08",
    },
    "03": {
        "a file 17 times smaller": "= 1724417 / 101856",
        "help much more:** 3": "= 82.9 - 79.9",
        "to 6 points, with every seed": "= 88.5 - 82.8",
        "by 0.4": "= 82.4 - 82.0",
        "to 1.0 points on": "= 83.8 - 82.8",
        "by 1.9 points at width 8": "= 84.8 - 82.9",
        "to 2.8 points": "= 93.9 - 91.1",
        "with 300 or more units": "Hinton et al. 2015, section 3",
        "with 30 units": "Hinton et al. 2015, section 3",
        "units 2.5 to 4 did best": "Hinton et al. 2015, section 3",
        "it is 17 times smaller": "= 1724417 / 101856",
        "and 7 points": "= 92.0 - 84.9",
    },
    "03b": {
        "layer with 500 outputs": "the width of fc1",
        "there are 500, the": "the width of fc1",
        "cannot represent 500": "the width of fc1",
        "raised it by 3.5": "Hinton et al. 2015, section 3",
        "and read 98.6 %": "Hinton et al. 2015, section 3",
        "in 880 steps": "labkit/topics/knowledge_distillation/experiment.py: 55 epochs of 16 steps",
        "labels (256 steps)": "labkit/topics/knowledge_distillation/experiment.py: 16 epochs of 16 steps",
        "images for 256 steps": "labkit/topics/knowledge_distillation/experiment.py: 16 epochs of 16 steps",
        "in these 256 steps": "labkit/topics/knowledge_distillation/experiment.py: 16 epochs of 16 steps",
        "and with all (430 steps)": "one epoch of 55,000 images by 128",
    },
    "04": {
        "has 300 and": "its name",
        "left of its 98.1 %": "= 0.9808",
        "Each of the 300 neurons": "its name",
        "by 8 points or more": "= 95.1 - 86.8",
        "12 for the dense one": "labkit/zoo.py",
        "is 0.1 points": "= 97.9 - 97.8",
        "and 2.3 points": "= 96.0 - 93.7",
        "2.1 times less work": "= 266200 / 125600",
        "both 1.6 %": "Evci et al. 2020, table 2",
    },
    "05": {
        "30 full trials": "= 270 / 9",
        "on 4,000 other": "labkit.topics.hyperparameter_search.experiment.FRESH",
    },
    "06": {
        "600 steps long": "labkit.topics.regularization.runs.STEPS",
        "L2, 300 steps": "= 1000 / 50 * 15",
        "after 40 steps": "5 epochs of 1,000 images by 128",
        "images, 1,200 steps": "labkit.topics.regularization.experiment.FEW_BUDGET",
        "200 are held out": "labkit.topics.regularization.experiment.HELD_OUT",
        "800 are trained on": "labkit.topics.regularization.experiment.HELD_OUT",
        "gains 5.5 points": "= 95.8 - 90.3",
        "smoothing 2.2": "= 92.5 - 90.3",
    },
    "07": {
        "4 epochs over 20,000 images of": "labkit.topics.learning_rate.experiment.IMAGES",
        "4 epochs over 20,000 images each": "labkit.topics.learning_rate.experiment.IMAGES",
        "lose 1.3": "= 85.9 - 84.6",
        "to 4.9 points": "= 83.8 - 78.9",
        "average by 1.6": "= 84.7 - 83.1",
        "to 2.5 points": "= 85.6 - 83.1",
        "network is 1.3 points": "= 85.9 - 84.6",
        "it is 9 points": "= 81.0 - 72.1",
        "for all, by 7": "= 79.0 - 72.2",
        "after 20 batches": "StepLR(step_size=2) ten times",
        "not 20 epochs": "StepLR(step_size=2) ten times",
        "and 7 points": "= 85.6 - 78.9",
    },
    "08": {
        "cosine: 550": "= 2200 / 100 * 25",
        "few images, 550": "= 2200 / 100 * 25",
        "after 550 steps": "= 2200 / 100 * 25",
        "errors of 7.65": "a reproduction of Wilson et al. 2017",
        "and 9.60": "a reproduction of Wilson et al. 2017",
        "± 0.19 %": "a reproduction of Wilson et al. 2017",
        "by up to 16": "= 81.5 - 65.3",
        "β₂ = 0.999": "Kingma & Ba 2015, the default",
        "it classifies 97 %": "= 97.1",
        "Nesterov 96": "= 96.4",
        "momentum 95": "= 94.9",
        "Adam by 28": "= 77.7 - 49.5",
    },
    "09": {
        "3,000 updates on": "3 epochs of 10,000 images by 10",
        "a factor of 50": "= 100 / 2",
        "worth 28 points": "= 85.3 - 57.6",
        "3,000 updates and": "3 epochs of 10,000 images by 10",
    },
    "10": {
        "than the paper's 27 KB": "published: Deep Compression P+Q+Huffman",
        "counts 40 times": "published: Deep Compression P+Q+Huffman",
        ", 5 or": "a guess to choose from",
        "or 10 KB": "a guess to choose from",
        "1,640 of them": "= 1640",
        "keeps 120": "benchmarks.records, keep_units",
        "and 60 of": "benchmarks.records, keep_units",
        "16 filters": "benchmarks.records, keep_units",
        "and 64 units": "benchmarks.records, keep_units",
        "dense network has 1.64": "Han et al. 2016, Table 1",
        "5.1 after": "Han et al. 2016, Table 2",
        "came to 5,154": "docs/log.md",
        "to 5,203": "docs/log.md",
        "to 1.80 %": "docs/log.md",
        "stay above 98 %": "a goal to reach",
    },
    "10b": {
        "Is it so at 80 %": "labkit.topics.order_matters.experiment.POINTS",
        "and at 98 % and 2? And": "labkit.topics.order_matters.experiment.POINTS",
        "not measurably at 80 %": "labkit.topics.order_matters.experiment.POINTS",
        "at 98 % and 2 even": "labkit.topics.order_matters.experiment.POINTS",
        "98 % and 2 bits. Train": "a setting of the panel",
    },
    "12": {
        "and 64 KB of flash": "data sheet of STM32F103x8",
        "STM32F103C8; 96 KB": "Banbury et al. 2021",
        "(20 settings": "COARSE of the experiment",
        "all 8,000 networks of LeNet": "20 settings, cubed",
        "the best of all 8,000": "20 settings, cubed",
        "they are 0.08 points": "= 97.58 - 97.50",
        "at 1 MB": "a setting of the panel",
        "scene 64 KB": "a scene of the panel",
        "91.02 %": "python -m benchmarks.budgets --check",
        "90.77 %": "python -m benchmarks.budgets --check",
        "dense network of 1,084,865 bytes 91.27 %": "the checkpoint's record",
        "2 bits each, with 91.13 %": "Zhu et al. 2017",
        "91.77 %": "Zhu et al. 2017",
    },
    "13": {
        "take 1.7 MB": "4 bytes for each of 430,500 weights",
        "one for 64": "a setting of the panel",
        "shrink in steps**: 32": "the bits of a float32",
        "products in 32 bits": "the bits of an int32",
        "becomes 32,767": "the largest int16",
        "at most 64 in size": "the largest of a symmetric grid of 7 bits",
        "with 16 KB of memory": "data sheet of STM32F030x4",
    },
    "11": {
        "as good as 32": "the bits of a float",
        "four 3 to 12": "the scan of the layers, drawn above",
        "more than 1.5 points": "the scan of the layers, drawn above",
        "cost 66": "= 65.9",
        "ImageNet (0.1 %)": "Krishnamoorthi 2018",
        "reaches 69.8 %": "Krishnamoorthi 2018",
        "(dense 71.9 %)": "Krishnamoorthi 2018",
        "worth 25 points": "= 47.6 - 22.6",
        "and 32 to": "= 83.8 - 52.0",
        "not 25": "docs/log.md",
        "loses 22 points": "= 87.9 - 65.5",
        "10 to 32": "= 83.8 - 52.0",
    },
}


@functools.cache
def sizes() -> set[float]:
    """Images of each split; of each network that ships, parameters, weights, weights of a layer, bytes of its file."""
    found = set()
    for model_name, data_name in RECIPES:
        data, model = lk.load_data(data_name), lk.load_model(model_name, data_name)
        weights = [p.numel() for p in model.parameters() if p.ndim > 1]
        found |= {len(data.train), len(data.validation), len(data.test), *weights, sum(weights)}
        found |= {sum(p.numel() for p in model.parameters()), len(lk.encode(model))}
    return {float(size) for size in found if size >= 1000}


def published(method: str) -> set[float]:
    """The numbers that published.csv has on a method."""
    with (data_dir() / "records" / "published.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == method]
    return {float(row[column]) for row in rows for column in ("error_pct", "size_bytes", "ratio")}


def confirmed(figure: Figure, source: str, notebook: prose.Notebook) -> bool:
    """Whether what `ELSEWHERE` names as the source of a figure gives it; a source in words is taken at its word."""
    if source.startswith("= "):
        value = prose.evaluate(source[2:], notebook.outputs | notebook.settings | sizes())
        return prose.traced(figure, {value}, set())
    if source.startswith("published: "):
        return prose.traced(figure, published(source.removeprefix("published: ")), set())
    return bool(source)


def untraced(notebook: prose.Notebook, elsewhere: dict[str, str]) -> list[str]:
    """The figures, with words around, that are not in their section's outputs, a setting or confirmed elsewhere."""
    wrong, used = [], set()
    for text, outputs in notebook.sections:
        more, words = untraced_in(text, outputs, notebook, elsewhere)
        wrong, used = wrong + more, used | words
    return wrong + [f"not in the prose: {words!r}" for words in elsewhere.keys() - used]


def untraced_in(
    text: str, outputs: set[float], notebook: prose.Notebook, elsewhere: dict[str, str]
) -> tuple[list[str], set[str]]:
    """The same for one section; and the words of `elsewhere` that it uses."""
    wrong, used = [], set()
    spans = [(text.find(words), words) for words in elsewhere if words in text]
    for figure in prose.figures(text):
        words = next((w for start, w in spans if start <= figure.start < start + len(w)), "")
        if words:
            used.add(words)
            known = confirmed(figure, elsewhere[words], notebook)
        else:
            known = figure.value in sizes() or prose.traced(figure, outputs, notebook.settings)
        if not known:
            around = text[max(0, figure.start - 50) : figure.start + 30]
            wrong.append(f"{figure.text} in: {' '.join(around.split())}")
    return wrong, used


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_figure_in_the_prose_is_one_that_the_notebook_shows(path):
    assert "\n".join(untraced(prose.read(path), ELSEWHERE.get(path.stem.split("_")[0], {}))) == ""


def shown(markdown: str, output: str, code: str = "") -> prose.Notebook:
    """A notebook of one section."""
    return prose.Notebook([(markdown, prose.in_output({"text": output}))], prose.constants(code))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("97.3 against 86 %", "97.4 against 86 %"),
        ("97.3 against 86 %", "97.3 against 85 %"),
        ("from 70.8 to 95.8 %", "from 70.8 to 95.9 %"),
        ("61 KB", "62 KB"),
        ("60,802 bytes", "60,803 bytes"),
        ("loses 0.3 points", "loses 0.4 points"),
        ("12 images lost", "13 images lost"),
        ("at 90 %", "at 91 %"),
        ("17.6 times smaller", "17.5 times smaller"),
    ],
)
def test_a_figure_that_was_changed_is_found(right, wrong):
    output = "accuracy 97.34 0.8571 size 60802 · 70.84 95.78 (12 lost; −0.31) 17.6×"
    assert untraced(shown(f"It is {right}.", output, "prune(model, 0.9)"), {}) == []
    assert len(untraced(shown(f"It is {wrong}.", output, "prune(model, 0.9)"), {})) == 1


def test_what_is_no_figure_is_left_alone():
    text = (
        "## 12 Things\n`lk.prune(0.37)` and $x^{37}$ of LeNet-300-100 (Han et al. 2015), 784-32-10, section 37.5;\n"
        "*About 30 minutes, after 01.*\n"
        "28 × 28, notebook 09, 02b, [03](03_x.ipynb), four in 5; 95 % intervals; a 16-bit float, 3s, 10⁻³"
    )
    assert prose.figures(text + "\n\n## Sources\n\n- 1234.5") == []


@pytest.mark.parametrize("source", ["= 1066516 / 23558", "published: MIRACLE lowest error", "the paper, section 3"])
def test_a_source_elsewhere_is_followed_and_has_to_be_used(source):
    figure = {"=": "45 times", "p": "0.69 %", "t": "98.6 %"}[source[0]]
    notebook = shown(f"It is {figure} and more.", "1066516 bytes, then 23558")
    assert untraced(notebook, {figure: source}) == []
    assert len(untraced(notebook, {})) == 1
    assert untraced(notebook, {figure: source, "words that are not there": source}) != []


def test_a_wrong_calculation_or_row_is_found():
    notebook = shown("It is 46 times smaller, at 0.7 %.", "1066516 bytes, then 23558")
    assert len(untraced(notebook, {"46 times": "= 1066516 / 23558", "0.7 %": "published: EPR"})) == 2
    with pytest.raises(KeyError, match="23559"):
        untraced(notebook, {"46 times": "= 1066516 / 23559"})


def test_most_figures_of_the_notebooks_would_be_found_if_a_digit_were_changed():
    found = total = 0
    for path in NOTEBOOKS:
        notebook, elsewhere = prose.read(path), ELSEWHERE.get(path.stem.split("_")[0], {})
        for text, outputs in notebook.sections:
            before = untraced_in(text, outputs, notebook, elsewhere)
            for figure in prose.figures(text):
                end = figure.start + len(figure.text)
                changed = text[: end - 1] + str((int(text[end - 1]) + 4) % 10) + text[end:]
                found += untraced_in(changed, outputs, notebook, elsewhere) != before
                total += 1
    assert found > 0.75 * total, f"{found} of {total}"
