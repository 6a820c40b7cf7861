"""Previews: on time for a slow network, and always ending in the result of `labkit.measure.accuracy`."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from labkit.data import Split
from labkit.live import score as _score
from labkit.live.score import LATE, PREVIEW, REFRESH, Score, scores
from labkit.measure import accuracy
from labkit.significance import wilson


class Clock:
    """A stopwatch that only a `Timed` network moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(_score, "time", SimpleNamespace(perf_counter=self.read, thread_time=self.read))

    def read(self):
        self.now += 1e-7
        return self.now


class Timed(nn.Module):
    """Takes given times per image and per call; the class it predicts is the first pixel."""

    def __init__(self, clock, an_image, a_call=0.0):
        super().__init__()
        self.clock, self.an_image, self.a_call, self.calls = clock, an_image, a_call, []

    def __deepcopy__(self, memo):
        return self  # scoring copies a network; the stopwatch is this one

    def forward(self, x):
        self.clock.now += self.a_call + self.an_image * len(x)
        self.calls.append(len(x))
        classes = x.flatten(1)[:, 0].long()
        return torch.eye(10)[classes % 10]


def images(n):
    """n images; for every seventh, the predicted class is wrong."""
    number = torch.arange(n)
    shown = torch.where(number % 7 == 0, number + 1, number) % 10
    return Split(shown.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2), number % 10)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(_score, "workers", Asked)
    return Clock(monkeypatch)


class Asked:
    """A pool that does a piece of work only when its result is needed: one stopwatch, and nothing runs ahead."""

    def submit(self, function, *arguments):
        return SimpleNamespace(result=lambda: function(*arguments), cancel=lambda: None)


def timed(clock, model, split):
    return [(clock.now, score) for score in scores(model, split)]


@pytest.mark.parametrize("an_image", [2e-5, 1e-4, 1e-3])
def test_the_first_score_of_a_slow_network_is_on_time_and_the_rest_follow(clock, an_image):
    split = images(int(3 / an_image))  # three seconds in all
    seen = timed(clock, Timed(clock, an_image), split)
    times, found = [t for t, _ in seen], [s for _, s in seen]
    assert PREVIEW <= times[0] <= 1.3 * PREVIEW
    assert 0.4 * PREVIEW / an_image < found[0].images < 1.3 * PREVIEW / an_image
    assert [s.settled for s in found] == [False] * (len(found) - 1) + [True]
    assert 3 / REFRESH - 2 < len(found) < 3 / REFRESH + 3
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < 1.5 * REFRESH
    assert [s.images for s in found] == sorted({s.images for s in found})


def test_a_network_too_slow_for_a_frame_still_shows_something_soon(clock):
    """16 images are the first chunk; no frame is waited for after it."""
    seen = timed(clock, Timed(clock, 0.02), images(60))
    assert seen[0][0] == pytest.approx(16 * 0.02, rel=0.01)
    assert seen[0][1].images == 16


def test_a_fast_network_gives_one_settled_score(clock):
    split = images(5_000)
    ((now, score),) = timed(clock, Timed(clock, 1e-6), split)
    assert score.settled
    assert now < PREVIEW


@pytest.mark.parametrize(("seconds", "previews"), [(0.9 * LATE, 0), (0.9 * REFRESH, 1)])
def test_a_network_that_is_nearly_done_gives_no_preview(clock, seconds, previews):
    assert PREVIEW < seconds < REFRESH
    *early, (_, last) = timed(clock, Timed(clock, seconds / 5_000), images(5_000))
    assert (len(early), last.settled) == (previews, True)


def test_a_network_with_dear_calls_is_called_seldom(clock):
    model = Timed(clock, 1e-6, a_call=0.004)
    timed(clock, model, images(5_000))
    assert len(model.calls) <= 25


@pytest.mark.parametrize("an_image", [1e-6, 1e-4, 5e-3])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 500])
def test_every_image_is_scored_once_and_the_last_score_is_the_accuracy(clock, an_image, n):
    model, split = Timed(clock, an_image), images(n)
    *_, last = scores(model, split)
    assert sum(model.calls) == n
    expected = accuracy(model, split)
    assert (last.correct, last.images, last.total) == (expected["correct"], n, n)
    assert last.accuracy == expected["accuracy"]
    assert last.interval == (expected["accuracy_low"], expected["accuracy_high"])


def test_a_preview_speaks_only_of_the_images_it_has_seen(clock):
    split = images(3_000)
    first = next(scores(Timed(clock, 1e-3), split))
    expected = accuracy(Timed(clock, 0), Split(split.x[: first.images], split.y[: first.images]))
    assert len(first.predicted) == first.images < first.total == 3_000
    assert (first.correct, first.accuracy) == (expected["correct"], expected["accuracy"])
    assert first.predicted.equal(split.x[: first.images].flatten(1)[:, 0].long())


def test_a_trained_network_scores_as_it_measures(trained, conv, digits):
    for model in (trained, conv):
        *_, last = scores(model, digits.validation)
        assert last.correct == accuracy(model, digits.validation)["correct"]
        predicted = model(digits.validation.x).argmax(1)
        assert last.predicted.equal(predicted)


def test_scoring_is_in_evaluation_mode_and_leaves_the_network_in_its_own(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10)).train()
    one, other = ([*scores(model, digits.validation)][-1].correct for _ in range(2))
    assert one == other == accuracy(model, digits.validation)["correct"]
    assert model.training
    assert model[1].training


def test_a_score_by_hand():
    score = Score(torch.tensor([1, 2, 2]), correct=2, images=3, total=9)
    assert (score.settled, score.accuracy, score.interval) == (False, 2 / 3, wilson(2, 3))


def test_workers_keep_torch_to_one_thread_and_leave_other_threads_theirs():
    threads = torch.get_num_threads()
    pool = _score.workers()
    assert {pool.submit(torch.get_num_threads).result() for _ in range(4 * threads)} == {1}
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == threads


def test_pieces_of_images_come_back_in_order():
    model, split = nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), images(1_777)
    *_, last = scores(model, split)
    assert last.predicted.equal(model(split.x).argmax(1))


def test_an_overtaken_score_leaves_the_workers_no_work(clock):
    cancelled = []

    class Pool(Asked):
        def submit(self, function, *arguments):
            work = super().submit(function, *arguments)
            work.cancel = lambda: cancelled.append(arguments)
            return work

    _score.workers = Pool
    seen = scores(Timed(clock, 1e-3), images(3_000))
    next(seen)
    assert not cancelled
    seen.close()
    assert 1 <= len(cancelled) <= _score.AHEAD
