"""Searches whose processes are killed at any moment, whose disk is full, and that several workers share.

The children come from a server that has labkit loaded, so that they start within milliseconds. A child that is to be
killed counts its own calls and kills itself at one of them: the moments are the same on every machine.
"""

import math
import os
import random
import resource
import signal
import sys

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from labkit import _storage
from labkit.search import finished, grid, open_study, search, trials
from tests.killing import CONTEXT as CHILDREN

SPACE = {"lr": (1e-3, 10.0, "log"), "width": (2, 9), "kind": ["a", "b"]}
TWO = {"accuracy": "maximize", "size": "minimize"}
COLUMNS = ["lr", "width", "kind", "accuracy", "size"]
PATIENCE = 240


def bowl(trial, lr, width, kind):
    return {"accuracy": -((math.log10(lr) + 1) ** 2) - 0.1 * (width - 5) ** 2 + (kind == "a"), "size": width}


def run(sampler, place=None, trials=16, **settings):
    space = grid(SPACE, 4) if sampler == "grid" else SPACE
    goals = TWO if sampler == "nsga2" else {"accuracy": "maximize"}
    return search(bowl, space, trials=trials, sampler=sampler, goals=goals, storage=place, **settings)


def kill_at(call):
    """Kill this process at its n-th call of a function from now on."""
    left = iter(range(call))
    sys.setprofile(lambda *event: None if next(left, None) is not None else os.kill(os.getpid(), signal.SIGKILL))


def child(sampler, place, call=None, barrier=None, **settings):
    if barrier:
        barrier.wait(PATIENCE)
    if call:
        kill_at(call)
    run(sampler, place, **settings)
    sys.setprofile(None)


def start(*args, **settings):
    process = CHILDREN.Process(target=child, args=args, kwargs=settings)
    process.start()
    return process


def ended(process):
    process.join(PATIENCE)
    return process.exitcode


def settings_of(study):
    """What the finished trials tried and found, in their order."""
    table = trials(study)
    return table[table["state"] == "complete"].reindex(columns=COLUMNS).values.tolist()


@pytest.fixture(params=["study.journal", "sqlite:///{}/study.db"])
def place(request, tmp_path):
    """The storage of a study, in a folder of its own."""
    return request.param.format(tmp_path) if "://" in request.param else str(tmp_path / request.param)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "nsga2"])
def test_a_search_that_is_killed_at_any_moment_ends_like_one_that_is_not(place, sampler):
    moments, kills = random.Random(sampler), 0
    calls = 200_000 if "://" in place else 40_000
    while kills < 6 and ended(start(sampler, place, moments.randrange(1, calls))) == -signal.SIGKILL:
        kills += 1
    assert kills >= 5, kills
    assert settings_of(run(sampler, place)) == settings_of(run(sampler))


def test_a_trial_that_ends_while_it_is_taken_for_lost_keeps_its_result(place, monkeypatch):
    """Its search ends between the reading of the trials and the look at its lock."""
    study = open_study("race", place, {"accuracy": "maximize"})
    trial = study.ask()
    trial.set_user_attr("worker", "gone")

    def ends(file, worker):
        study.tell(trial, 0.5)
        return False

    monkeypatch.setattr(_storage, "lives", ends)
    _storage.give_up_lost(study, None)
    (kept,) = study.trials
    assert (kept.state, kept.value) == (optuna.trial.TrialState.COMPLETE, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_that_begin_a_new_study_together_end_it_with_as_many_trials_as_asked_for(place, workers):
    for _ in range(3):
        barrier = CHILDREN.Barrier(workers)
        crowd = [start("random", place, barrier=barrier, trials=6) for _ in range(workers)]
        assert [ended(one) for one in crowd] == [0] * workers
        study = open_study(storage=place)
        assert trials(study)["state"].tolist() == ["complete"] * 6
        assert sorted(settings_of(study)) == sorted(settings_of(run("random", trials=6)))
        for file in os.listdir(os.path.dirname(place.removeprefix("sqlite:///"))):
            os.unlink(os.path.join(os.path.dirname(place.removeprefix("sqlite:///")), file))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_what_a_killed_worker_had_begun_is_tried_by_the_others(place, sampler):
    moments = random.Random(sampler)
    for _ in range(3):
        others = [start(sampler, place, trials=12) for _ in range(2)]
        killed = start(sampler, place, moments.randrange(1, 100_000 if "://" in place else 20_000), trials=12)
        assert {ended(killed), *map(ended, others)} <= {0, -signal.SIGKILL}
    study = run(sampler, place, trials=12)
    assert len(finished(study)) == 12
    assert sorted(settings_of(study)) == sorted(settings_of(run(sampler, trials=12)))


def share(path, barrier, trials):
    """A worker whose storage is an object of Optuna's, for which there are no locks."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    barrier.wait(PATIENCE)
    run("grid", storage, trials=trials)


@pytest.mark.slow
def test_without_locks_a_worker_gives_up_what_another_has_begun(tmp_path):
    path, barrier = tmp_path / "study.journal", CHILDREN.Barrier(3)
    open_study(storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))))
    crowd = [CHILDREN.Process(target=share, args=(path, barrier, 12)) for _ in range(3)]
    for one in crowd:
        one.start()
    assert [ended(one) for one in crowd] == [0, 0, 0]
    study = run("grid", optuna.storages.JournalStorage(JournalFileBackend(str(path))), trials=12)
    assert sorted(settings_of(study)) == sorted(settings_of(run("grid", trials=12)))


class Overtaken(optuna.storages.JournalStorage):
    """A storage in which another worker comes in between before this one calls `method` for the first time."""

    def overtake(self, method, between):
        def overtaken(*args, **settings):
            setattr(self, method, original)
            between()
            return original(*args, **settings)

        original = getattr(self, method)
        setattr(self, method, overtaken)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "done"), [("set_trial_user_attr", 12), ("create_new_trial", 1)])
def test_without_locks_no_setting_is_tried_twice_when_another_worker_comes_between(tmp_path, method, done):
    """It does the first `done` settings; a trial that waits has then the index of one of them."""
    path = str(tmp_path / "study.journal")
    storage, came = Overtaken(JournalFileBackend(path)), []
    study = open_study(storage=storage)

    def between():
        came.append(ended(start("grid", path, trials=done)))
        study.enqueue_trial({})

    if method == "set_trial_user_attr":
        study.enqueue_trial({})
    storage.overtake(method, between)
    run("grid", storage, trials=12)
    assert came == [0]
    assert sorted(settings_of(study)) == sorted(settings_of(run("grid", trials=12)))


# a journal


def test_a_torn_journal_goes_on_and_every_finished_trial_is_there(tmp_path):
    place = tmp_path / "study.journal"
    before = settings_of(run("tpe", place, trials=12))
    whole = place.read_bytes()
    lines = whole.splitlines(keepends=True)
    for torn in (lines[-1][:1], lines[-1][:-1], b"\0" * 100, b'{"op_code":7'):
        place.write_bytes(whole + torn)
        assert settings_of(open_study(storage=place)) == before
        assert place.read_bytes().startswith(whole)
    place.write_bytes(whole[: len(whole) * 3 // 4])
    assert settings_of(run("tpe", place, trials=16)) == settings_of(run("tpe", trials=16))
    place.write_bytes(lines[0][:5])
    assert len(trials(open_study(storage=place))) == 0


def test_a_journal_that_is_torn_while_a_search_has_it_open(tmp_path):
    place = tmp_path / "study.journal"

    def tear(study):
        with place.open("ab") as file:
            file.write(b'{"op_code":6,"wor')

    study = run("tpe", str(place), after_trial=tear)
    assert settings_of(study) == settings_of(open_study(storage=place)) == settings_of(run("tpe"))


def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, refuses):
    place = tmp_path / "thesis.txt"
    place.write_text("first line\nlast line without an end")
    said = f"storage is {place}, which is not a journal of a study; allowed: a journal, or a free name"
    refuses(ValueError, said, open_study, storage=place)
    assert place.read_text() == "first line\nlast line without an end"
    place = tmp_path / "study.journal"
    run("random", place, trials=2)
    place.write_bytes(place.read_bytes().replace(b"\n", b"\n]\n", 1))
    said = f"storage is {place}, in which a line is damaged; allowed: a journal of whole lines"
    refuses(ValueError, said, open_study, storage=place)
    said = "storage is 5; allowed: a path, the URL of a database, a storage object of Optuna's or None"
    refuses(TypeError, said, open_study, storage=5)
    said = "storage is no://where; allowed: a path, or the URL of a database that SQLAlchemy knows"
    refuses(ValueError, said, open_study, storage="no://where")
    said = f"storage is {tmp_path}/no/study.journal; allowed: a file in a folder that exists"
    refuses(ValueError, said, open_study, storage=tmp_path / "no" / "study.journal")


def fill_the_disk(place, size, told):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        run("tpe", place)
    except OSError as error:
        told.send(error.strerror)


def test_a_full_disk_is_told_in_words_and_the_search_goes_on_when_there_is_room(tmp_path):
    place, whole = tmp_path / "study.journal", settings_of(run("tpe"))
    for size in (1_000, 7_003, 12_345):
        told, tells = CHILDREN.Pipe(duplex=False)
        process = CHILDREN.Process(target=fill_the_disk, args=(place, size, tells))
        process.start()
        assert ended(process) == 0
        assert told.recv() == f"the study in {place} could not be written: File too large; the trials before are kept"
        kept = settings_of(open_study(storage=place))
        assert kept == whole[: len(kept)]
    assert len(kept) > 2
    assert settings_of(run("tpe", place)) == whole


def test_nothing_but_the_locks_of_a_study_is_left_beside_it(place):
    run("random", place, trials=3)
    file = place.removeprefix("sqlite:///")
    name = os.path.basename(file)
    hidden = {f".{name}.ask.lock"} | ({f".{name}.lock"} if "://" not in place else set())
    assert set(os.listdir(os.path.dirname(file))) == {name} | hidden


@pytest.mark.parametrize("line", [b'{"x":1}', b"5", b'{"op_code":\xff}'])
def test_a_line_that_is_whole_but_of_no_study_is_refused(tmp_path, refuses, line):
    place = tmp_path / "study.journal"
    run("random", place, trials=2)
    place.write_bytes(place.read_bytes() + line + b"\n")
    said = f"storage is {place}, in which a line is damaged; allowed: a journal of whole lines"
    refuses(ValueError, said, open_study, storage=place)


def test_what_is_no_database_and_no_regular_file_is_refused(tmp_path, refuses):
    (tmp_path / "text.db").write_text("some text that is long enough to be no database" * 9)
    said = f"storage is sqlite:///{tmp_path}/text.db, which cannot be used (file is not a database); "
    refuses(
        ValueError, said + "allowed: a database, or a free name", open_study, storage=f"sqlite:///{tmp_path}/text.db"
    )
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", f"sqlite:///{tmp_path}"):
        said = f"storage is {place}; allowed: a file in a folder that exists"
        refuses(ValueError, said, open_study, storage=place)


def test_a_journal_stays_where_it_was_when_the_objective_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()

    def wanders(trial, **settings):
        os.chdir(tmp_path / "inner")
        return bowl(trial, **settings)

    study = search(wanders, SPACE, trials=3, sampler="random", storage="study.journal")
    assert settings_of(study) == settings_of(open_study(storage=tmp_path / "study.journal"))
    assert os.listdir(tmp_path / "inner") == []
