"""python -m labkit.data [fetch cifar10 [--from DIR]]: check the data files, or fetch more."""

import argparse
import sys
from pathlib import Path

from labkit.data.fetch import fetch_cifar10
from labkit.data.files import damaged, manifest


def main(arguments: list[str] | None = None) -> int:
    """The command line: list and check the files, or fetch the full CIFAR-10; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m labkit.data", description="Check the data files, or fetch more.")
    verbs = parser.add_subparsers(dest="verb")
    fetch = verbs.add_parser("fetch", help="fetch a full data set into data/")
    fetch.add_argument("name", choices=["cifar10"])
    fetch.add_argument("--from", dest="folder", type=Path, help="a local folder instead of the web")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "fetch":
            fetch_cifar10(options.folder)
        problems = damaged()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join(problems or [f"{len(manifest())} files listed, none damaged"]) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
