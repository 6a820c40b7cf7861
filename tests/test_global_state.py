"""labkit leaves the process as the user has it: environment, warnings, logging, random generators, torch's settings."""

import json
import subprocess
import sys
import threading

import optuna
import pytest

from labkit.search import importance, open_study, search

# a process that calls one verb of labkit after the other and prints what each has changed
CALLS = """
import json, logging, os, random, sys, warnings
import numpy as np, torch, matplotlib
import labkit as lk

def state(generators=True):
    loggers = {n: l.level for n, l in logging.root.manager.loggerDict.items() if isinstance(l, logging.Logger)}
    return {
        "environment": dict(os.environ), "folder": os.getcwd(), "recursion": sys.getrecursionlimit(),
        "filters": list(map(str, warnings.filters)), "showwarning": str(warnings.showwarning),
        "root": [logging.root.level, list(map(str, logging.root.handlers))], "loggers": loggers,
        "torch": [torch.get_num_threads(), torch.is_grad_enabled(), str(torch.get_default_dtype()),
                  torch.are_deterministic_algorithms_enabled(), torch.is_inference_mode_enabled()],
        "numpy": [np.geterr(), repr(np.get_printoptions())],
        "figures": str(matplotlib.rcParams), "backend": "matplotlib.pyplot" in sys.modules,
        "generators": [torch.get_rng_state().tolist(), str(random.getstate()), str(np.random.get_state())],
    }

changed, folder = {}, sys.argv[1]

def after(name, call, but=()):
    before = state()
    result = call()
    now = state()
    for name_of_new in now["loggers"].keys() - before["loggers"].keys():  # an import makes them: not a change
        del now["loggers"][name_of_new]
    changed[name] = [key for key in now if now[key] != before[key] and key not in but]
    return result

data = after("load_data", lambda: lk.load_data("digits"))
few = lk.data.Split(data.train.x[:200], data.train.y[:200])
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
after("load_model", lambda: lk.load_model("lenet-300-100", "mnist"))
model, _ = after("fit", lambda: lk.fit(model, few, epochs=1, lr=0.01, progress=False))
thin = after("prune", lambda: lk.prune(model, sparsity=0.5))
small = after("quantize", lambda: lk.quantize(model, bits=4))
after("share", lambda: lk.share_weights(model, bits=3))
after("prune_channels", lambda: lk.prune_channels(model, 0.5, example=data.train.x[:1]))
after("save", lambda: lk.save(small, folder + "/small.lk"))
after("load", lambda: lk.load(folder + "/small.lk", into=model))
after("encode", lambda: lk.encode(thin))
after("accuracy", lambda: lk.accuracy(model, few))
after("measure", lambda: lk.measure(model, few))
after("compare", lambda: lk.compare(model, thin, few))
after("ledger", lambda: lk.ledger(small))
half = {"half": lambda net, layers: lk.prune(net, 0.5, layers=layers)}
after("sensitivity", lambda: lk.sensitivity(model, few, half))
search = after("the module search", lambda: lk.search)
space, tried = {"x": (0.0, 1.0), "y": (0.0, 1.0)}, lambda trial, x, y: {"accuracy": x * y}
study = after("search", lambda: search.search(tried, space, trials=12))
after("search in a journal", lambda: search.search(tried, space, trials=3, storage=folder + "/study.journal"))
after("search in a database", lambda: search.search(tried, space, trials=3, storage=f"sqlite:///{folder}/study.db"))
after("trials", lambda: search.trials(study))
after("importance", lambda: search.importance(study))
after("restored", lambda: search.restored(search.trials(study).to_dict("records"), space, {"accuracy": "maximize"}))
after("cross_validate", lambda: search.cross_validate(lambda part: model, few, k=2))
print(json.dumps(changed))
"""


@pytest.mark.slow
def test_no_call_changes_the_process(tmp_path):
    ran = subprocess.run([sys.executable, "-c", CALLS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    changed = json.loads(ran.stdout.splitlines()[-1])
    assert {name: what for name, what in changed.items() if what} == {}
    assert "importance" in changed


def objective(trial, x):
    return {"accuracy": x}


@pytest.fixture
def level():
    """A verbosity that is neither Optuna's own nor labkit's."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    yield optuna.logging.DEBUG
    optuna.logging.set_verbosity(before)


def test_searches_are_quiet_and_leave_optunas_verbosity(level, capfd):
    def nested(trial, x):
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
        search(objective, {"x": (0.0, 1.0)}, trials=1)
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
        return {"accuracy": x}

    study = search(nested, {"x": (0.0, 1.0)}, trials=10)
    importance(study)
    with pytest.raises(ValueError, match="goals"):
        open_study(goals={"accuracy": "up"})
    assert optuna.logging.get_verbosity() == level
    assert capfd.readouterr().err == ""


def test_searches_side_by_side_leave_optunas_verbosity(level):
    first_is_in, second_is_over = threading.Event(), threading.Event()

    def first(trial, x):
        first_is_in.set()
        assert second_is_over.wait(60)
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
        return {"accuracy": x}

    thread = threading.Thread(target=search, args=(first, {"x": (0.0, 1.0)}), kwargs={"trials": 1})
    thread.start()
    assert first_is_in.wait(60)
    search(objective, {"x": (0.0, 1.0)}, trials=1)
    second_is_over.set()
    thread.join(60)
    assert optuna.logging.get_verbosity() == level


def test_a_verbosity_that_the_user_sets_during_a_search_stays(level):
    def loud(trial, x):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return {"accuracy": x}

    search(loud, {"x": (0.0, 1.0)}, trials=1)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
