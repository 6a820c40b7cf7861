"""python -m labkit.zoo [train MODEL DATA]: list the checkpoints with their recipes, or retrain one."""

import argparse
import json
import sys

from labkit.zoo import figures, retrain


def main(arguments: list[str] | None = None) -> int:
    """The command line: list the checkpoints or retrain one; 130 if Ctrl-C stopped it."""
    parser = argparse.ArgumentParser(prog="python -m labkit.zoo", description="Trained checkpoints and their recipes.")
    verbs = parser.add_subparsers(dest="verb")
    train = verbs.add_parser("train", help="retrain a checkpoint")
    train.add_argument("model")
    train.add_argument("data")
    options = parser.parse_args(arguments)
    try:
        rows = [retrain(options.model, options.data)] if options.verb == "train" else figures()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; nothing was written, and the same command trains from the beginning\n")
        return 130
    sys.stdout.write("\n".join(json.dumps(row) for row in rows) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
