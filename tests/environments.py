"""Fresh environments for the tests: the Pythons of this machine, building the package, installing it.

What belongs here: finding, building, installing, with uv where the machine has it, else with venv and pip. What does
not: anything that runs in an environment (see matrix.py and system/test_wheel.py). Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
CACHE = CHECKOUT / ".matrix"
PYTHONS = ("3.11", "3.12", "3.13")
NAME = "airflow-provider-batch"
UV = shutil.which("uv")
NEEDED = "ssl, sqlite3, venv" if UV else "ssl, sqlite3, venv, ensurepip"


def pythons() -> dict[str, str]:
    """The newest working Python of each supported version that this machine has: {"3.11": "/path/to/python3.11"}."""
    home = Path.home()
    managed = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python"))
    folders = [
        Path(sys.base_prefix) / "bin",
        *map(Path, os.get_exec_path()),
        *Path(os.environ.get("PYENV_ROOT", home / ".pyenv")).glob("versions/*/bin"),
        *managed.glob("*/bin"),
    ]
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in dict.fromkeys(folder / f"python{version}" for folder in folders for version in PYTHONS):
        full = _version(path) if path.exists() else ()
        name = ".".join(map(str, full[:2]))
        if name in PYTHONS and full > found.get(name, ((), ""))[0]:
            found[name] = (full, str(path))
    return {name: found[name][1] for name in PYTHONS if name in found}


def _version(python: Path) -> tuple[int, ...]:
    """Return the version, empty if the Python does not start or lacks a required module such as SQLite."""
    code = f"import sys, {NEEDED}; print(*sys.version_info[:3])"
    try:
        answer = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=30, check=True, env=clean()
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(int, answer.stdout.split()))


def clean(more: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment variables without those of another Airflow, another Python or no bytecode."""
    left_out = ("AIRFLOW", "_AIRFLOW", "PYTHON", "VIRTUAL_ENV", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | dict(more)


def build(tree: Path, into: Path) -> tuple[Path, Path]:
    """Build the sdist and the wheel of a source tree with this Python's hatchling; return their paths."""
    shutil.rmtree(into, ignore_errors=True)
    run([sys.executable, "-m", "hatchling", "build", "--directory", into], cwd=tree)
    (sdist,), (wheel,) = into.glob("*.tar.gz"), into.glob("*.whl")
    return sdist, wheel


def make(folder: Path, python: str, wheel: Path, constraints: str, extras: str = "") -> Path:
    """Return the Python of an environment with the wheel and what it needs; only the wheel is always installed again.

    :param constraints: The text of a constraints file.
    :param extras: Such as ``[test]``.
    """
    inputs = "\n".join(
        [python, str(UV), extras, constraints, (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")]
    )
    made_from, pinned = folder / "made-from.txt", folder / "constraints.txt"
    inside = folder / "bin" / "python"
    if not made_from.exists() or made_from.read_text(encoding="utf-8") != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        run([UV, "venv", "--quiet", "--python", python, folder] if UV else [python, "-m", "venv", folder])
        pinned.write_text(constraints, encoding="utf-8")
        install(inside, "--constraint", pinned, f"{NAME}{extras} @ {wheel.as_uri()}")
        made_from.write_text(inputs, encoding="utf-8")
    install(inside, "--no-deps", "--reinstall" if UV else "--force-reinstall", wheel)
    return inside


def install(python: Path, *what: str | Path) -> str:
    if UV:
        return run([UV, "pip", "install", "--quiet", "--python", python, *what])
    return run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", *what])


def check(python: Path) -> str:
    """Check that the installed packages are compatible; the error says which are not."""
    return run([UV, "pip", "check", "--python", python] if UV else [python, "-m", "pip", "check"])


def newest_airflow(python: str) -> str:
    """The newest version that the package registry has, pre-releases included."""
    if UV:
        command = [UV, "pip", "compile", "--quiet", "--no-deps", "--no-header", "--prerelease", "allow", "-"]
        return run([*command, "--python", python], input_text="apache-airflow").strip().rpartition("==")[2]
    index = run([python, "-m", "pip", "--disable-pip-version-check", "index", "versions", "--pre", "apache-airflow"])
    (newest,) = re.findall(r"^apache-airflow \((\S+)\)", index, re.MULTILINE)
    return str(newest)


def run(command: Iterable[str | Path | None], *, cwd: Path | None = None, input_text: str = "") -> str:
    """Return the output of a command that must succeed; an error contains the output."""
    arguments = [str(argument) for argument in command]
    done = subprocess.run(
        arguments, cwd=cwd, env=clean(), input=input_text, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout
