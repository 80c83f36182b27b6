"""_airflow/compat.py alone asks which Airflow this is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_batch

PACKAGE = Path(airflow_batch.__file__).parent
VERSIONS = ("airflow_version", "__version__", "version('apache-airflow")


def questions(path: Path) -> list[int]:
    """The lines of a module that try an import of airflow, or compare Airflow's version."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.unparse(node)
        tries = isinstance(node, ast.Try) and "Import" in "".join(map(ast.unparse, node.handlers))
        if tries and any("airflow." in ast.unparse(line) for line in node.body):
            found.append(node.lineno)
        compares = isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and text.startswith("__version__."))
        if compares and any(name in text for name in VERSIONS):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "compat.py"],
    ids=lambda path: path.stem,
)
def test_no_module_but_compat_asks_for_airflows_version(path):
    assert questions(path) == []


def test_the_questions_of_compat_are_seen():
    assert len(questions(PACKAGE / "_airflow/compat.py")) == 3
