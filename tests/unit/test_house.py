"""What holds for the source as a whole: its picture, and that compat.py alone knows the versions of Airflow."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import airflow_batch

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = Path(airflow_batch.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "compat.py")
ABSENT = {"ImportError", "ModuleNotFoundError", "AttributeError", "Exception", "BaseException"}


def differences(source: str) -> list[str]:
    """The places of a module that ask which Airflow this is, or what it has."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    imported = {name for node in nodes if is_import(node) for name in bound_names(node)}
    versions = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and of_airflow(node.module)
        for alias in node.names
        if "version" in alias.name
    }
    # What is made from the version is the version: v = Version(airflow.__version__).
    for node in nodes:
        if isinstance(node, ast.Assign) and asks_version(node.value, versions) and not is_text(node.value):
            versions |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    found = []
    for node in nodes:
        guarded = isinstance(node, ast.Try) and any(map(catches_absence, node.handlers))
        guarded |= isinstance(node, ast.With) and any(suppresses_absence(item.context_expr) for item in node.items)
        if guarded and any(is_import(inner) for statement in node.body for inner in ast.walk(statement)):
            found.append(f"line {node.lineno}: an import of airflow that may fail")
        if isinstance(node, ast.Compare) and asks_version(node, versions):
            found.append(f"line {node.lineno}: a comparison with Airflow's version")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith(".startswith") and asks_version(node.func, versions):
                found.append(f"line {node.lineno}: a comparison with Airflow's version")
            first = ast.unparse(node.args[0]) if node.args else ""
            may_lack = called == "hasattr" or (called == "getattr" and len(node.args) == 3)
            if may_lack and first.partition(".")[0] in imported:
                found.append(f"line {node.lineno}: asks what a part of airflow has")
            if called.rpartition(".")[2] == "find_spec" and first.strip("'\"").partition(".")[0] == "airflow":
                found.append(f"line {node.lineno}: asks whether a part of airflow exists")
    return found


def of_airflow(module: str | None) -> bool:
    return (module or "").partition(".")[0] == "airflow"


def is_import(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and of_airflow(node.module)
    if isinstance(node, ast.Import):
        return any(of_airflow(alias.name) for alias in node.names)
    called = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
    return called and of_airflow(ast.unparse(node.args[0]).strip("'\""))


def bound_names(node: ast.AST) -> set[str]:
    aliases = node.names if isinstance(node, ast.Import | ast.ImportFrom) else []
    return {(alias.asname or alias.name).partition(".")[0] for alias in aliases}


def catches_absence(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(ABSENT & names_in(handler.type))


def suppresses_absence(call: ast.expr) -> bool:
    return isinstance(call, ast.Call) and ast.unparse(call.func).endswith("suppress") and bool(ABSENT & names_in(call))


def names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def asks_version(node: ast.AST, versions: set[str]) -> bool:
    text = ast.unparse(node)
    return bool(versions & names_in(node)) or "airflow.__version__" in text or "version('apache-airflow" in text


def is_text(node: ast.AST) -> bool:
    """Such as a User-Agent, which names the version and compares nothing."""
    return isinstance(node, ast.JoinedStr | ast.Dict)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_differs_between_airflow_versions_stands_in_compat_alone(path):
    assert differences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    from airflow.sdk import RetryPolicy\nexcept ImportError:\n    pass",
        "try:\n    import airflow.sdk.new\nexcept (ValueError, ModuleNotFoundError):\n    pass",
        "try:\n    m = importlib.import_module('airflow.sdk.new')\nexcept Exception:\n    pass",
        "with suppress(ImportError):\n    from airflow.sdk import RetryPolicy",
        "from airflow import __version__ as v\nnew = v >= '3.3'",
        "from airflow import __version__\nold = __version__.startswith('3.1.')",
        "import airflow\nnew = Version(airflow.__version__) >= Version('3.3')",
        "import airflow\nv = Version(airflow.__version__)\nnew = v.minor > 2",
        "new = metadata.version('apache-airflow-task-sdk') > '1.2'",
        "from airflow.sdk import RetryDecision\nnew = hasattr(RetryDecision, 'reschedule')",
        "import airflow.sdk\nnew = getattr(airflow.sdk, 'RetryPolicy', None)",
        "new = importlib.util.find_spec('airflow.sdk.new')",
    ],
)
def test_each_way_to_ask_is_found(source):
    assert differences(source)


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import matplotlib\nexcept ImportError:\n    pass",
        "try:\n    from airflow_batch.campaigns import merge\nexcept ImportError:\n    pass",
        "from airflow import __version__ as v\nagent = f'provider/1 apache-airflow/{v}'",
        "from airflow.sdk import BaseHook\ntry:\n    BaseHook.get_connection('batch')\nexcept ValueError:\n    pass",
        "new = hasattr(task, 'throttle')",
    ],
)
def test_what_every_version_has_may_be_used(source):
    assert differences(source) == []


def test_compat_holds_such_places():
    assert len(differences((PACKAGE / "compat.py").read_text(encoding="utf-8"))) >= 4


def test_the_picture_of_the_house_has_every_room_and_no_other():
    picture = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The house")[1].split("```")[1]
    drawn = set(re.findall(r"^  (\S+\.py|\S+/)\s", picture, re.MULTILINE))
    wings = {room for room in drawn if room.endswith("/")}
    rooms = {str(path.relative_to(PACKAGE)) for path in MODULES if path.name != "__init__.py"} | {"compat.py"}
    assert drawn - wings == {room for room in rooms if f"{room.partition('/')[0]}/" not in wings}
    assert all((PACKAGE / wing).is_dir() for wing in wings)
