"""Context-modelled range coding of a sparse matrix of small integers: each weight is predicted from its neighbours.

The matrix is coded column by column, all rows of a column at once. Each entry is coded as a few yes-or-no questions: is
it kept; is it positive; is its magnitude above 1, above 2, … The probability of a yes is estimated from counts over the
entries so far that had the same neighbours. Writer and reader keep the same counts, so no table is stored. This is the
adaptive modelling of text compressors (Cleary and Witten 1984) for a matrix; it takes a second where other coders take
milliseconds.
"""

from collections.abc import Sequence

import constriction
import numpy as np

from labkit.store._wire import Bytes
from labkit.store.range_coder import tail

TOP = 15  # the largest magnitude: larger ones would need too many questions
MAX_COLUMNS = 1024  # each takes up to 1 ms, even with few rows
MAX_ENTRIES = 1 << 19  # each takes 1 to 3 µs, and reading walks twice: 3 s
_CROWDED = np.array([1, 3, 6, 10, 16, 26, 42])  # kept entries in neighbouring columns, in halves, at the class limits
_BUSY = np.array([1, 2, 4, 6, 10, 16, 32])  # kept entries of a row over the mean of all rows, in eighths


class Question:
    """The counts of one kind of question, in contexts from coarse to fine; a rare one backs off to the coarser one."""

    def __init__(self, sizes: Sequence[int], first: float, trust: float) -> None:
        self.counts = [np.zeros((size, 2)) for size in sizes]
        self.first, self.trust = first, trust

    def probability(self, contexts: Sequence[np.ndarray]) -> np.ndarray:
        """The probability of a yes for each entry: (yes + trust · coarser) / (all + trust).

        Uses only operations that IEEE rounds the same on every machine: no exp, no log.
        """
        share = np.full(len(contexts[0]), self.first)
        for counts, context in zip(self.counts, contexts, strict=True):
            seen = counts[context]
            share = (seen[:, 1] + self.trust * share) / (seen[:, 0] + seen[:, 1] + self.trust)
        return np.clip(share, 2.0**-16, 1 - 2.0**-16)

    def learn(self, contexts: Sequence[np.ndarray], answers: np.ndarray) -> None:
        """Count the answers."""
        for counts, context in zip(self.counts, contexts, strict=True):
            np.add.at(counts, (context, answers), 1)


class Writer:
    """Encodes answers."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def ask(self, question: Question, contexts: Sequence[np.ndarray], answers: np.ndarray) -> np.ndarray:
        """Encode the answers, 0 or 1 each, and return them."""
        answers = answers.astype(np.int32)
        if answers.size:
            self._coder.encode(answers, _BERNOULLI, question.probability(contexts))
            question.learn(contexts, answers)
        return answers

    def stream(self) -> bytes:
        """What was written."""
        return tail(self._coder)


class Reader:
    """Decodes the answers that a writer encoded."""

    def __init__(self, raw: Bytes) -> None:
        words = np.frombuffer(b"".join([raw, bytes(-len(raw) % 4)]), ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def ask(self, question: Question, contexts: Sequence[np.ndarray], answers: np.ndarray) -> np.ndarray:
        """The next answers in the stream; of `teacher_outputs` only the size is used."""
        if not answers.size:
            return answers.astype(np.int32)
        try:
            found = self._coder.decode(_BERNOULLI, question.probability(contexts))
        except AssertionError as error:  # constriction raises it if no answers give this number
            raise ValueError("the context-coded stream does not fit its model") from error
        question.learn(contexts, found)
        return found


_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)


def can_walk(shape: tuple[int, int]) -> bool:
    """Is a matrix of this shape (rows, columns) coded in reasonable time?"""
    rows, columns = shape
    return columns <= min(MAX_COLUMNS, 64 * rows) and rows * columns <= MAX_ENTRIES


def context_encode(q: np.ndarray, stride: int) -> tuple[bytes, bytes]:
    """(mask, values) of a matrix q (rows, columns) within ±15; column j has neighbours j - 1 and around j - stride."""
    places, values = Writer(), Writer()
    _walk(places, values, q.astype(np.int8), stride)
    return places.stream(), values.stream()


def context_decode(mask: Bytes, values: Bytes, shape: tuple[int, int], stride: int) -> np.ndarray:
    """The matrix that `context_encode` wrote; ValueError for streams that it did not write."""
    q = _walk(Reader(mask), Reader(values), np.zeros(shape, np.int8), stride)
    if context_encode(q, stride) != (mask, values):  # no byte of a stream goes unchecked
        raise ValueError("the context-coded streams are not the ones their values make")
    return q


def _walk(places: Writer | Reader, values: Writer | Reader, q: np.ndarray, stride: int) -> np.ndarray:
    """Ask every question of every column; a writer reads q, a reader fills it."""
    rows, columns = q.shape
    kept, positive = Question((1, 64, 768), 0.02, 6), Question((1, 7, 63), 0.5, 3)
    above = [Question((1, 4, 16), 0.3, 3) for _ in range(TOP - 1)]
    padded = np.zeros((rows, columns + stride + 1), np.int8)  # columns before the first are empty
    in_row, in_column = np.zeros(rows, np.int64), np.zeros(columns + stride + 1, np.int64)
    nothing = np.zeros(rows, np.int64)
    for j in range(columns):
        here = j + stride + 1
        near = [here - 1] + ([here - stride, here - stride - 1, here - stride + 1] if stride > 2 else [here - stride])
        around = padded[:, near]
        crowd = np.searchsorted(_CROWDED, 2 * in_column[near].sum() // len(near), side="right")
        busy = np.searchsorted(_BUSY, (8 * rows * in_row + 2 * rows) // (in_row.sum() + rows // 4 + 1), side="right")
        neighbours = (around != 0) @ np.array([2, 2, 1, 1][: len(near)])
        coarse = crowd * 8 + busy
        is_kept = places.ask(kept, (nothing, coarse, coarse * 12 + neighbours), q[:, j] != 0)

        at = np.flatnonzero(is_kept)
        signs, none = np.sign(around[at]), nothing[at]
        agreed, pair = np.clip(signs.sum(1), -3, 3) + 3, 3 * signs[:, 0] + signs[:, 1] + 4
        sign = 2 * values.ask(positive, (none, agreed, agreed * 9 + pair), q[at, j] > 0) - 1
        size, beside = np.ones(len(at), np.int64), np.minimum(np.abs(around[at]).max(1, initial=0), 3)
        finer, open_ = beside * 4 + crowd // 2, np.arange(len(at))
        for step, question in enumerate(above, 1):
            asked = (none[open_], beside[open_], finer[open_])
            open_ = open_[values.ask(question, asked, np.abs(q[at[open_], j]) > step) == 1]
            if not open_.size:
                break
            size[open_] += 1
        q[at, j] = padded[at, here] = sign * size
        in_row += is_kept
        in_column[here] = len(at)
    return q
