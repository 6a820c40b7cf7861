"""Every public verb explains itself: its docstring has the sections of Google's style, and its examples run."""

import doctest
import inspect

import pytest
import torch

import labkit


def doc_of(name):
    """The docstring of a public name."""
    return inspect.getdoc(getattr(labkit, name)) or ""


def sections(text):
    """The sections of a docstring that have a line below them: {"Args", "Returns", …}."""
    lines = text.splitlines()
    titles = {line for line, below in zip(lines, lines[1:], strict=False) if below.startswith("    ")}
    return {line[:-1] for line in titles if line[:1].isupper() and line.endswith(":")}


def needed(verb):
    """The sections that the docstring of a verb needs; calling a class returns an instance, which needs no words."""
    wanted = {"Example"} if inspect.isclass(verb) else {"Returns", "Example"}
    return wanted | ({"Args"} if inspect.signature(verb).parameters else set())


def undescribed(verb, text):
    """The arguments of a verb that its section Args does not list."""
    listed = text.partition("Args:\n")[2].partition("\n\n")[0].splitlines()
    names = {line.strip().partition(":")[0].lstrip("*") for line in listed if line[4:5].strip()}
    return [name for name in inspect.signature(verb).parameters if name not in names]


def examples(verb, name):
    """The doctests of a verb, without those of its methods."""
    finder = doctest.DocTestFinder(recurse=False)
    return finder.find(verb, name, module=False, globs={"lk": labkit, "torch": torch})


@pytest.mark.parametrize("name", labkit.__all__)
def test_the_docstring_has_its_sections(name):
    verb = getattr(labkit, name)
    assert needed(verb) - sections(doc_of(name)) == set()
    assert undescribed(verb, doc_of(name)) == []


@pytest.mark.parametrize("name", labkit.__all__)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # `save` writes
    (test,) = examples(getattr(labkit, name), name)
    assert 2 <= len(test.examples) <= 6
    assert [example for example in test.examples if example.want]  # without a result, nothing is stated
    said = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert result.failed == 0, "".join(said)


def bare(x):
    """Twice x."""
    return 2 * x


def told(x):
    """Twice x.

    Args:
        x: a number.

    Returns:
        A number.

    Example:
        >>> told(2)
        4
    """
    return 2 * x


def test_a_docstring_without_sections_is_found():
    assert needed(bare) - sections(inspect.getdoc(bare)) == {"Args", "Returns", "Example"}
    assert undescribed(bare, inspect.getdoc(bare)) == ["x"]
    assert not examples(bare, "bare")[0].examples
    assert needed(told) - sections(inspect.getdoc(told)) == set()
    assert undescribed(told, inspect.getdoc(told)) == []


@pytest.mark.parametrize(("function", "failed"), [(told, 0), (lambda x: 5, 1)])
def test_a_wrong_example_is_found(function, failed):
    (test,) = examples(told, "told")
    test.globs["told"] = function
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == failed
