"""What `make test` and `make quick` run: every part, also after one has failed; then a summary, and 1 if any failed.

    python tests/run.py [part ...]        all of `make test` if none is named

Only the standard library is used, so that a broken installation is told by the parts and not by this file.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PYTEST = ["pytest", "--junit-xml={report}"]
TWO_WORKERS = ["-n", "2", "--dist", "loadfile"]  # a file's fixtures are made once
COMMANDS = {
    "style": ["ruff", "check", "--output-format=concise", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "words": ["tests.words"],
    "quick": [*PYTEST, "tests", *TWO_WORKERS, "-m", "not browser and not slow"],
    "tests": [*PYTEST, "tests", *TWO_WORKERS, "-m", "not browser"],
    "browser": [*PYTEST, "tests/browser", *TWO_WORKERS],
    "notebooks": [*PYTEST, *TWO_WORKERS, "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=1200",
                  *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("notebooks/*.ipynb")))],
}  # fmt: skip
ALL = [part for part in COMMANDS if part != "quick"]


@dataclass
class Outcome:
    """How a part ended; one that counts nothing and fails has failed once."""

    part: str
    ok: bool
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def run(part: str) -> Outcome:
    """One part, its output going where ours goes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [word.format(report=report) for word in COMMANDS[part]]
        print(f"--- {part}: {' '.join(COMMANDS[part])}", flush=True)
        started = time.monotonic()
        ok = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode == 0
        outcome = Outcome(part, ok, time.monotonic() - started)
        outcome.passed, outcome.failed, outcome.skipped = counted(report)
    if not ok:
        outcome.failed = max(1, outcome.failed)
    return outcome


def counted(report: Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of pytest's report; nothing of what left none."""
    if not report.exists():
        return 0, 0, 0
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest has just written it
    numbers = [[int(s.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")] for s in suites]
    total, failures, errors, skipped = (sum(column) for column in zip(*numbers, strict=True))
    return total - failures - errors - skipped, failures + errors, skipped


def main(parts: list[str]) -> int:
    """Run the parts, print the summary; 1 if one failed, 2 for a part that does not exist."""
    if unknown := [part for part in parts if part not in COMMANDS]:
        print(f"no part is called {unknown[0]!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    outcomes = [run(part) for part in parts or ALL]
    print("\npart       result   passed  failed  skipped  seconds")
    for o in outcomes:
        result = "ok" if o.ok else "FAILED"
        print(f"{o.part:<10} {result:<7} {o.passed:>7} {o.failed:>7} {o.skipped:>8} {o.seconds:>8.0f}")
    passed, failed, skipped = (sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if all(o.ok for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
