"""Phrasings that docs/plain_words.txt bans, with file and line: `python -m tests.words`, a part of `make lint`.

It reads the docstrings, comments and strings of labkit, the docstrings of tests, the markdown cells and the comments
of notebooks, and the pages. Only the standard library is used.
"""

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = "docs/plain_words.txt"
PLACES = ("labkit/**/*.py", "tests/**/*.py", "notebooks/*.ipynb", "docs/*.md", "data/README.md", "*.md")
# Not gone through yet; to be emptied.
LATER = (
    "labkit/store/ledger.py",  # a label of `comparison` that outputs of notebooks show
    "labkit/topics/other_architectures/experiment.py",  # labels of changes in sweeps that ship
)
PROSE = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
CODE = "·"  # stands for what is no prose; no pattern reaches across it


def patterns(text: str) -> list[tuple[re.Pattern[str], str]]:
    """(pattern, better) for each line of the list; ValueError for a line that is neither that nor a comment."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, bar, better = line.rpartition(" | ")
            if not bar:
                raise ValueError(f"{LIST}: a line should be 'pattern | better', but is {line!r}")
            found.append((re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE), better))
    return found


def blanked(source: str, spans: list[tuple[tuple[int, int], tuple[int, int]]]) -> str:
    """`source` with only what lies in the spans, from (line, column) to (line, column), and its line breaks."""
    lines = source.splitlines(keepends=True)
    kept = [re.sub(r"\S", CODE, line) for line in lines]
    for (first, start), (last, end) in spans:
        for row in range(first - 1, last):
            left, right = start if row == first - 1 else 0, end if row == last - 1 else len(lines[row])
            kept[row] = kept[row][:left] + lines[row][left:right] + kept[row][right:]
    return re.sub(r"^([ \t]*)#", r"\1 ", "".join(kept), flags=re.MULTILINE)  # a comment goes on over lines


def in_code(source: str, kinds: tuple[int, ...] = PROSE) -> str:
    """The comments and strings of Python code, all else blanked."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return blanked(source, [(token.start, token.end) for token in tokens if token.type in kinds])


def in_docstrings(source: str) -> str:
    """The docstrings of Python code, all else blanked."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            spans.append(((text.lineno, 0), (text.end_lineno, text.end_col_offset)))
    return blanked(source, spans)


def prose(path: Path, source: str) -> Iterator[tuple[str, str]]:
    """(what it is called, text) of each piece of prose in a file, `path` being relative to the project."""
    if path.suffix == ".ipynb":
        for i, cell in enumerate(json.loads(source)["cells"]):
            text = "".join(cell["source"])
            yield f"{path}:cell {i}", text if cell["cell_type"] == "markdown" else in_code(text, (tokenize.COMMENT,))
    elif path.suffix == ".py":
        yield str(path), in_docstrings(source) if path.parts[0] == "tests" else in_code(source)
    else:
        yield str(path), source


def found(path: Path, source: str, banned: list[tuple[re.Pattern[str], str]]) -> list[str]:
    """A line for each banned phrasing in a file: where, what, and what is better."""
    lines = []
    for name, text in prose(path, source):
        for pattern, better in banned:
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                lines.append(f"{name}:{line}: {' '.join(match[0].split())!r}; better: {better}")
    return lines


def main(root: Path = ROOT) -> int:
    """Print what is found; 1 if anything is."""
    banned = patterns((root / LIST).read_text(encoding="utf-8"))
    paths = sorted({path for place in PLACES for path in root.glob(place)})
    lines = []
    for path in (path.relative_to(root) for path in paths):
        if not any(path.is_relative_to(later) for later in LATER):
            lines += found(path, (root / path).read_text(encoding="utf-8"), banned)
    print("\n".join([*lines, f"{len(lines)} phrasings of {LIST} found"]))
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
