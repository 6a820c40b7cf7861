"""Opening a panel again leaks nothing: no object, no widget, no thread, no memory."""

import collections
import gc
import threading
import time
import weakref
from pathlib import Path

import ipywidgets as widgets
import pytest
from torch import nn

from labkit import explore
from labkit.data import Data
from labkit.live.panel import Panel
from tests.waiting import until

INSTANCES = widgets.widgets.widget._instances
PAGE = 4096
OWN = {"ReferenceType", "dict", "builtin_function_or_method"}  # what this test makes, and what torch looks up once


def opened(name: str, model: nn.Module, data: Data) -> Panel:
    """The panel, with the user's own network if it accepts one."""
    given = {"optimizers": (), "article_mlp": (data,)}.get(name, (model, data))
    return getattr(explore, name)(*given)


def shut() -> None:
    """Close every panel: how many points an open one holds of its run depends on how busy the machine is."""
    while Panel._open:
        Panel._open.popitem()[1].close_all()


def alive() -> collections.Counter:
    """The number of live objects of each type, without garbage."""
    gc.unfreeze()
    gc.collect()
    return collections.Counter(type(thing).__qualname__ for thing in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize("name", explore.__all__)
def test_opening_a_panel_again_leaves_nothing_behind(name: str, conv: nn.Module, digits: Data):
    opened(name, conv, digits)  # the first fills the caches that serve all panels
    threads, shown = threading.active_count(), len(INSTANCES)
    shut()
    before = alive()
    views = [weakref.ref(opened(name, conv, digits).view) for _ in range(3)]
    until(lambda: threading.active_count() <= threads)
    assert len(INSTANCES) == shown
    gc.collect()
    assert [view() is None for view in views] == [True, True, False]
    shut()
    for _ in range(50):  # a run that was stopped may still be ending, and holds what it works with
        grown = {kind: n for kind, n in (alive() - before).items() if n >= 3 and kind not in OWN}
        if not grown:
            break
        time.sleep(0.2)
    assert grown == {}  # what every opening leaves is there three times


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process its memory so")
def test_memory_stays_flat(conv: nn.Module, digits: Data):
    """Between 8 and 20 openings of the overview; with the collector's frozen part, each left 6 MB."""
    sizes = []
    for number in range(1, 21):
        opened("overview", conv, digits)
        if number in (8, 20):
            alive()
            sizes.append(resident())
    assert sizes[1] - sizes[0] < 16e6


def test_what_died_before_a_panel_is_opened_does_not_stay(conv: nn.Module, digits: Data):
    """A network of the user's own in a cycle of references, alive when a first panel is opened and dead at the next."""
    mine = nn.Linear(2, 2)
    mine.itself = [mine]
    opened("overview", conv, digits)
    seen = weakref.ref(mine)
    del mine
    opened("overview", conv, digits)
    assert seen() is None
