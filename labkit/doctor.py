"""What is wrong with an installation, in plain words, and the command that solves it.

    python -m labkit.doctor
    python labkit/doctor.py     also if a package is missing that labkit needs

Nothing of the lab is imported before its packages are found. An older Python, from 3.8 on, runs this file.
"""

from __future__ import annotations

import re
import site
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Installed = Callable[[str], str | None]

PYTHON = ">=3.11"  # as in pyproject.toml; on an older Python there is no installed labkit that could be asked
INSTALL = "python -m pip install --editable ."
EXTENSIONS = {"ipywidgets": "@jupyter-widgets/jupyterlab-manager", "anywidget": "anywidget"}


def installed(package: str) -> str | None:
    """The version of an installed package, None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: "2.13.0+cpu" is (2, 13)."""
    numbers = re.match(r"[\d.]*", version)[0].strip(".").split(".")  # type: ignore[index]
    while len(numbers) > 1 and int(numbers[-1]) == 0:
        numbers.pop()
    return tuple(int(n or 0) for n in numbers)


def python_problems(version: tuple[int, int], requires_python: str) -> list[str]:
    """A Python older than `requires_python` (as ">=3.11")."""
    oldest = requires_python[2:]
    if version >= release(oldest):
        return []
    return [
        f"Python is {'.'.join(map(str, version))}; labkit needs {oldest} or newer: install one, delete .venv, make lab"
    ]


def package_problems(requirements: Iterable[str], version_of: Installed) -> list[str]:
    """Every required package that is missing or has the wrong version; those of an extra do not count."""
    problems = []
    for requirement in requirements:
        name, how, wanted = re.match(r"([\w.-]+)\s*(?:(>=|==|~=)\s*([\w.]+))?", requirement).groups()  # type: ignore[union-attr]
        found = version_of(name)
        if "extra ==" in requirement:
            continue
        if found is None:
            problems.append(f"{name} is missing; run: {INSTALL}")
        elif how == "==" and release(found) != release(wanted):
            problems.append(f"{name} is {found}; labkit needs {wanted} exactly; run: {INSTALL}")
        elif how == ">=" and release(found) < release(wanted):
            problems.append(f"{name} is {found}; labkit needs {wanted} or newer; run: {INSTALL}")
    return problems


def front_end_problems(ipywidgets_requires: Iterable[str], version_of: Installed, folders: Iterable[Path]) -> list[str]:
    """Widgets whose browser part is missing or has another major version than their Python part."""
    problems = []
    for requirement in ipywidgets_requires:
        match = re.match(r"jupyterlab[_-]widgets\s*[~=>]=\s*([\d.]+)", requirement)
        found = version_of("jupyterlab_widgets")
        if match and (found is None or release(found)[0] != release(match[1])[0]):
            problems.append(
                f"jupyterlab_widgets is {found or 'missing'}; ipywidgets {version_of('ipywidgets')} speaks only to "
                f"{release(match[1])[0]}.x, so sliders stay blank; "
                "run: python -m pip install --force-reinstall ipywidgets jupyterlab_widgets"
            )
    for package, extension in EXTENSIONS.items():
        if not any((folder / extension / "package.json").exists() for folder in folders):
            problems.append(
                f"JupyterLab has no extension {extension}, so views of {package} stay blank; "
                f"run: python -m pip install --force-reinstall {package}"
            )
    return problems


def torch_warnings(torch_version: str | None) -> list[str]:
    """A CUDA build works, but takes gigabytes that this lab never uses."""
    if torch_version and "+cu" in torch_version:
        return [f"torch is {torch_version}, a CUDA build; the lab runs on the CPU, and `make lab` installs that build"]
    return []


def extension_folders() -> list[Path]:
    """Where JupyterLab looks for the browser parts of this Python's packages."""
    return [Path(base) / "share/jupyter/labextensions" for base in (sys.prefix, site.getuserbase())]


def data_problems() -> list[str]:
    """Data files that are missing or damaged."""
    from labkit import data  # not above: it needs torch, which may be what is missing

    try:
        return data.damaged()
    except (OSError, ValueError) as error:
        return [str(error)]


def examine() -> tuple[list[str], list[str]]:
    """(problems, warnings) of this installation."""
    if problems := python_problems(sys.version_info[:2], PYTHON):
        return problems, []
    if installed("labkit") is None:
        return [f"labkit is not installed for {sys.executable}; run: {INSTALL}"], []
    problems = package_problems(metadata.requires("labkit") or [], installed)
    if installed("ipywidgets"):
        problems += front_end_problems(metadata.requires("ipywidgets") or [], installed, extension_folders())
    if not problems:
        problems += data_problems()
    return problems, torch_warnings(installed("torch"))


def main() -> int:
    """Say what is wrong, one sentence per line; 0 if nothing is."""
    problems, warnings = examine()
    lines = [f"wrong: {p}" for p in problems] + [f"note: {w}" for w in warnings]
    if not problems:
        lines.append("labkit is installed correctly: packages, widgets and data are as they should be")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
