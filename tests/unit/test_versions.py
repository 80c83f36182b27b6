"""Only _airflow/compat.py depends on the version of Airflow."""

from __future__ import annotations

import ast
from pathlib import Path

import airflow_batch

PACKAGE = Path(airflow_batch.__file__).parent
COMPAT = PACKAGE / "_airflow/compat.py"
VERSIONS = ("airflow_version", "__version__", "version('apache-airflow")


def version_checks(path: Path) -> list[int]:
    """Return the lines of a module that try an import of airflow, or compare Airflow's version."""
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


def test_only_the_compat_module_checks_the_version_of_airflow():
    found = {path: lines for path in PACKAGE.rglob("*.py") if (lines := version_checks(path))}

    assert len(found.pop(COMPAT)) == 3
    assert found == {}
