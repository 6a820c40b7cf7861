"""Make every shipped sweep, or what is missing of it, in data/sweeps/ (hours, most of it for training)."""

import importlib
import importlib.util
import sys

from labkit.topics import TOPICS


def main() -> int:
    """The command line: make every shipped sweep, or what is missing of it; 130 if Ctrl-C stopped it."""
    try:
        make_all()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; every row that was done is kept: python -m labkit.topics goes on from there\n")
        return 130
    return 0


def make_all() -> None:
    """Make every shipped sweep, or what is missing of it, topic by topic."""
    for topic in TOPICS:
        name = f"labkit.topics.{topic}.experiment"
        if importlib.util.find_spec(name):
            sys.stderr.write(f"sweeps of {topic}\n")
            importlib.import_module(name).make()


if __name__ == "__main__":
    raise SystemExit(main())
